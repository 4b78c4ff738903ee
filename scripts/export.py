"""Write a run for other programs: AnnData of all test samples, and a table of slides for MultiQC.

Writes OUT/<run>.h5ad and OUT/<run>_slides_mqc.tsv. Example:

  python scripts/export.py --cohort-dir results/demo --run lite0-flow-go-bp \\
      --features results/demo/features/lite0/shard-*.parquet \\
      --shift results/demo/shift/lite0-flow-go-bp/fold-*.parquet --out results/demo/export
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, log


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--cohort-dir", type=Path, required=True, help="results/<cohort>")
    parser.add_argument("--run", required=True, help="<encoder>-<model>-<pathways>")
    for name, text in (
        ("features", "features/<encoder>/shard-*.parquet"),
        ("shift", "shift/<run>/fold-*.parquet"),
    ):
        parser.add_argument(f"--{name}", nargs="+", type=Path, required=True, help=text)
    parser.add_argument("--out", type=Path, required=True, help="folder for both files")
    args = parser.parse_args(argv)

    from slide2rna.predict import anndata_export
    from slide2rna.report import multiqc

    folder, run = args.cohort_dir, args.run
    samples = folder / f"evaluation/{run}/samples.parquet"
    slides = multiqc.slide_table(folder / "slides.parquet", samples, args.features, args.shift)
    dataset = anndata_export.run_to_anndata(folder, run)
    path = args.out / f"{run}.h5ad"
    anndata_export.write(dataset, path)
    log.log.info("%s: %d samples, %d genes", path, *dataset.shape)
    multiqc.write(slides, dataset.uns["cohort"], run, args.out / f"{run}_slides_mqc.tsv")


if __name__ == "__main__":
    cli.run(main)
