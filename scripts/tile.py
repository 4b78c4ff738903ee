"""Find the tissue of a shard's slides and choose their tiles (coordinates only, no pixels).

A rerun continues with the next slide. The manifest names each failed slide with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config, log


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--shard", type=Path, required=True, help="slides/shard-I.parquet")
    cli.add_slides_folder(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for per-slide files")
    parser.add_argument("--manifest", type=Path, required=True, help="tiles/shard-I.parquet")
    parser.add_argument("--settings", default="{}", help="section tiles as JSON")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    settings = config.parse_settings("tiles", args.settings)

    from slide2rna.slides import tiles

    table = tiles.tile_shard(
        args.shard, args.out, args.manifest, settings, args.seed, args.slides_folder
    )
    failed = table.filter(table["status"] != "ok").height
    log.log.info("%d slides tiled, %d failed", table.height - failed, failed)


if __name__ == "__main__":
    cli.run(main)
