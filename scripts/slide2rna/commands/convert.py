"""Convert a checkpoint of the published RNA-FM code to a model folder, or back.

A checkpoint doesn't contain gene names, and a bare state_dict doesn't contain gene sets either.
Examples:

  slide2rna convert val_best.pt models/luad/fold-0 --genes gene_list.csv \\
      --pathways all_gene_indices.json --encoder uni
  slide2rna convert models/luad/fold-0 luad.pt
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli
from slide2rna.core.errors import ConfigError, WeightsError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "source", type=Path, help="published checkpoint, or a model folder to convert back"
    )
    parser.add_argument("out", type=Path, help="folder or checkpoint to write")
    for name, text in (
        ("genes", "gene list, one per line, in the training's order"),
        ("pathways", "gene sets of the training: index JSON, GMT or Parquet"),
        ("statistics", "table gene, mean, sd (default: those in the checkpoint, or 0 and 1)"),
    ):
        parser.add_argument(f"--{name}", type=Path, help=text)
    parser.add_argument("--weights", choices=["ema", "model"], help="default: ema")
    parser.add_argument("--heads", type=int, help="attention heads (default: the checkpoint's)")
    parser.add_argument("--encoder", help="name of the tile encoder, for the record")
    args = parser.parse_args(argv)
    options = {key: value for key, value in vars(args).items() if value is not None}
    source, out = options.pop("source"), options.pop("out")

    from slide2rna.published import convert

    if not source.exists():
        raise WeightsError(source, "no such file or folder", "give a checkpoint or its folder")
    if source.is_dir():
        if options:
            cause = "doesn't apply when converting back to a published checkpoint"
            raise ConfigError(f"--{min(options)}", cause, "leave it out")
        convert.to_file(source, out)
        return
    if "genes" not in options:
        cause = "missing: a checkpoint doesn't contain the names of its genes"
        raise ConfigError("--genes", cause, "give the gene list, in the training's order")
    convert.to_folder(source, out, convert.ConversionInputs(**options))
