"""Fetch or check the slides of one shard and write the shard's manifest.

Slides with a url go to the folder `files` next to the manifest, which names each failed slide. A
rerun continues where the last run stopped, without requests for files that are complete.

    python scripts/download.py --slides results/mine/slides.parquet --shard 0 --shards 1 \\
        --out results/mine/slides/shard-0.parquet
"""

from __future__ import annotations

from collections.abc import Sequence

from slide2rna.core import cli
from slide2rna.slides import download


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    download.add_arguments(parser)
    cli.add_slides_folder(parser)
    parser.add_argument("--out", required=True, help="manifest of the shard (Parquet)")
    args = download.parse(parser, argv)
    download.download_shard(
        args.slides,
        args.shard,
        args.shards,
        args.out,
        download.server_settings(args),
        args.slides_folder,
    )


if __name__ == "__main__":
    cli.run(main)
