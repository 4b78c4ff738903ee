"""Fetch or check the slides of one shard and write the shard's manifest.

Slides with a url go to the folder `files` beside the manifest; a slide that fails is named in it.
A rerun goes on where it was, and what is there and right is not asked for again.

    python scripts/download.py --slides results/mine/slides.parquet --shard 0 --shards 1 \\
        --out results/mine/slides/shard-0.parquet
"""

from __future__ import annotations

from collections.abc import Sequence

from slide2rna import cli, download


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--slides", required=True, help="slides.parquet of the cohort")
    parser.add_argument("--shard", type=int, required=True, help="number of this shard, from 0")
    parser.add_argument("--shards", type=int, required=True, help="how many shards there are")
    parser.add_argument("--out", required=True, help="manifest of the shard (Parquet)")
    download.add_arguments(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.shard < args.shards:
        parser.error(f"--shard must be 0 to {args.shards - 1}")
    download.run(args.slides, args.shard, args.shards, args.out, download.settings_of(args))


if __name__ == "__main__":
    cli.run(main)
