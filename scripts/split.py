"""Draw the folds of a frozen cohort, or take those that it was given.

python scripts/split.py --slides results/mine/slides.parquet --out results/mine/splits.tsv
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--slides", type=Path, required=True, help="slides.parquet of the cohort")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--splits", type=Path, help="a split of your own: patient_id, fold, part")
    either.add_argument(
        "--published-splits", type=Path, help="published folds, in the same columns"
    )
    parser.add_argument("--origin", help="where the slides' own column split is from, for messages")
    parser.add_argument("--folds", default="{}", help="section folds as JSON")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="splits.tsv to write")
    args = parser.parse_args(argv)
    folds = config.parse_settings("folds", args.folds)
    source = {"splits": args.splits and str(args.splits)}
    if args.published_splits:
        source = {"splits": "published", "published_splits": str(args.published_splits)}

    from slide2rna.cohort import freeze

    freeze.split_cohort(args.slides, args.origin or args.slides, source, folds, args.seed, args.out)


if __name__ == "__main__":
    cli.run(main)
