"""Stop if a split unit, or the same slide file, sits in two parts of a fold.

    python scripts/guard.py --shards results/mine/slides/shard-*.parquet \\
        --splits results/mine/splits.tsv --out results/mine/guard.json
"""

from __future__ import annotations

from collections.abc import Sequence

from slide2rna.cohort import leak_guard
from slide2rna.core import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--shards", nargs="+", required=True, help="manifests of the slides")
    parser.add_argument("--splits", required=True, help="TSV: unit, fold, part")
    parser.add_argument("--out", required=True, help="JSON: what was checked")
    args = parser.parse_args(argv)
    leak_guard.guard_cohort(args.shards, args.splits, args.out)


if __name__ == "__main__":
    cli.run(main)
