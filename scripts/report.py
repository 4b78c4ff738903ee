"""Draw a run's figures and write its report: one HTML file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, log


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--cohort-dir", type=Path, required=True, help="results/<cohort>")
    parser.add_argument("--run", required=True, help="<encoder>-<model>-<pathways>")
    parser.add_argument("--features", required=True, help="name of the encoder")
    parser.add_argument("--pathways", required=True, help="name of the pathway set")
    parser.add_argument(
        "--extras",
        nargs="*",
        default=[],
        choices=["ablations", "leak_audit", "samplers", "stain"],
        help="further tables to show (default: none)",
    )
    parser.add_argument("--folds", type=int, help="number of folds (default: all that are found)")
    parser.add_argument("--shards", type=int, help="number of shards (default: all)")
    parser.add_argument(
        "--settings", type=json.loads, help="the cohort's settings as JSON, shown under Methods"
    )
    parser.add_argument(
        "--truth",
        type=Path,
        help="truth_genes.parquet of a simulated cohort, with the limits of its genes",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    args = parser.parse_args(argv)

    from slide2rna.report import report
    from slide2rna.report.sections import run_tables

    names = (args.run, args.features, args.pathways)
    options = (args.extras, args.folds, args.settings, args.shards, args.truth)
    run = run_tables.load(args.cohort_dir, *names, *options)
    log.log.info("report: %s", report.write(run, args.out))


if __name__ == "__main__":
    cli.run(main)
