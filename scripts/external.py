"""Score the models of cohort A on cohort B: `units`, then sample.py per fold, then `score`.

  python scripts/external.py units --slides results/B/slides.parquet --folds 5 --out splits.tsv
  python scripts/external.py score --train results/A --test results/B --encoder uni \\
      --draws results/A/draws/uni-flow-go-bp/fold-*.zarr --external fold-*.zarr \\
      --splits splits.tsv --pathways results/A/pathways/go-bp.parquet \\
      --run uni-flow-go-bp --out out
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, log


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    units = steps.add_parser("units", help="write a split with every slide of a cohort in test")
    units.add_argument("--slides", type=Path, required=True, help="slides.parquet")
    units.add_argument("--folds", type=int, required=True, help="number of fold models")
    units.add_argument("--out", type=Path, required=True)
    score = steps.add_parser("score", help="tables and page")
    score.add_argument("--train", type=Path, required=True, help="results/<training cohort>")
    score.add_argument("--test", type=Path, required=True, help="results/<test cohort>")
    score.add_argument("--encoder", required=True, help="name of the features of both")
    score.add_argument(
        "--draws", nargs="+", type=Path, required=True, help="of the training cohort"
    )
    score.add_argument("--external", nargs="+", type=Path, required=True, help="of B")
    score.add_argument("--splits", type=Path, required=True, help="split file written by `units`")
    score.add_argument("--pathways", type=Path, required=True, help="gene sets of the models")
    score.add_argument("--run", required=True, help="name of the run, for the tables")
    score.add_argument("--out", type=Path, required=True, help="folder for tables and page")
    score.add_argument("--settings", default="{}", help="section evaluate as JSON")
    cli.add_machine(score, threads=2)
    args = parser.parse_args(argv)
    if args.step == "score":
        cli.set_threads(args.threads)

    from slide2rna.core import config
    from slide2rna.studies.external import external

    if args.step == "units":
        external.write_test_split(args.slides, args.folds, args.out)
        return
    from slide2rna.report import external_page

    inputs = cli.from_options(external.ExternalInputs, args)
    settings = config.parse_settings("evaluate", args.settings)
    facts = external.evaluate(inputs, args.run, args.out, settings, args.seed, args.threads)
    log.log.info("page: %s", external_page.write(facts, args.out))


if __name__ == "__main__":
    cli.run(main)
