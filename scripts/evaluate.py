"""Score a run's draws and points, and other models, against measured expression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.scoring_parser(__doc__)
    parser.add_argument(
        "--search", nargs="+", default=[], type=Path, help="search.parquet of trained models"
    )
    parser.add_argument("--run", required=True, help="name of the run, for the tables")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)

    from slide2rna.core import config
    from slide2rna.evaluation import evaluate
    from slide2rna.evaluation.scoring.evaluated import EvaluationInputs

    settings = config.parse_settings("evaluate", args.settings)
    inputs = cli.from_options(EvaluationInputs, args)
    evaluate.evaluate(inputs, args.run, args.out, settings, args.seed, args.threads, args.search)


if __name__ == "__main__":
    cli.run(main)
