"""How far a fold's slides lie from its train part: distances of bags and of predicted profiles.

Leaves a table of the val, cal and test slides, and a file by which new slides can be judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    for name, text in (
        ("draws", "the run's fold-K.zarr"),
        ("bags", "bags of the cohort"),
        ("expression", "samples x genes, log2(x+1)"),
        ("slides", "slides.parquet"),
        ("splits", "unit, fold, part"),
        ("cohort", "cohort.json"),
        ("out", "table to write (Parquet)"),
        ("saved", "file for new slides to write (safetensors)"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    parser.add_argument("--run", required=True, help="name of the run, for the table")
    parser.add_argument("--settings", default="{}", help="section shift as JSON")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    settings = config.parse_settings("shift", args.settings)
    cli.set_threads(args.threads)

    from slide2rna import shift

    paths = ("draws", "bags", "expression", "slides", "splits", "cohort")
    inputs = shift.Inputs(**{name: getattr(args, name) for name in paths})
    shift.run(inputs, args.run, args.out, args.saved, settings, args.seed, args.threads)


if __name__ == "__main__":
    cli.run(main)
