"""Split a frozen cohort into folds: `draw` or take them, then `guard` them against leaks.

  python scripts/split.py draw --slides results/mine/slides.parquet --out results/mine/splits.tsv
  python scripts/split.py guard --shards results/mine/slides/shard-*.parquet \\
      --splits results/mine/splits.tsv --out results/mine/guard.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    about = "draw the folds of a frozen cohort, or take those that it was given"
    draw = steps.add_parser("draw", help=about, description=about)
    draw.add_argument("--slides", type=Path, required=True, help="slides.parquet of the cohort")
    either = draw.add_mutually_exclusive_group()
    either.add_argument("--splits", type=Path, help="a split of your own: patient_id, fold, part")
    either.add_argument(
        "--published-splits", type=Path, help="published folds, in the same columns"
    )
    draw.add_argument("--origin", help="where the slides' own column split is from, for messages")
    draw.add_argument("--folds", default="{}", help="section folds as JSON")
    draw.add_argument("--seed", type=int, default=1)
    draw.add_argument("--out", type=Path, required=True, help="splits.tsv to write")
    about = "stop if a split unit, or the same slide file, sits in two parts of a fold"
    guard = steps.add_parser("guard", help=about, description=about)
    guard.add_argument("--shards", nargs="+", required=True, help="manifests of the slides")
    guard.add_argument("--splits", required=True, help="TSV: unit, fold, part")
    guard.add_argument("--out", required=True, help="JSON: what was checked")
    args = parser.parse_args(argv)
    if args.step == "guard":
        from slide2rna.cohort import leak_guard

        leak_guard.guard_cohort(args.shards, args.splits, args.out)
    else:
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    folds = config.parse_settings("folds", args.folds)
    source = {"splits": args.splits and str(args.splits)}
    if args.published_splits:
        source = {"splits": "published", "published_splits": str(args.published_splits)}

    from slide2rna.cohort import freeze

    freeze.split_cohort(args.slides, args.origin or args.slides, source, folds, args.seed, args.out)


if __name__ == "__main__":
    cli.run(main)
