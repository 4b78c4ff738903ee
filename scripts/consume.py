"""Fetch, tile, encode and delete the slides of a shard one after the other (keep_slides: false).

Writes the manifests of the stages download, tiles and features, which name each failed slide. A
rerun continues with the next slide. Local slides that you provide are never deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config
from slide2rna.core.errors import ConfigError
from slide2rna.slides import download


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    download.add_arguments(parser)
    cli.add_slides_folder(parser)
    for stage in ("slides", "tiles", "features"):
        parser.add_argument(f"--{stage}-manifest", type=Path, required=True, help="to be written")
    parser.add_argument("--settings", default="{}", help="section features as JSON")
    parser.add_argument("--tile-settings", default="{}", help="section tiles as JSON")
    cli.add_machine(parser, threads=2, device=True)
    args = download.parse(parser, argv)
    settings = config.parse_settings("features", args.settings)
    if settings["encoder"] == "files":
        cause = "encoder files reads no slides, so there are none to delete"
        raise ConfigError("keep_slides: false", cause, "use another encoder, or keep_slides: true")
    tile_settings = config.parse_settings("tiles", args.tile_settings)
    cli.set_threads(args.threads)

    from slide2rna.core import devices
    from slide2rna.features import streaming, weights_record

    device = devices.choose_device(args.device)
    consumer = streaming.SlideStreamer(
        streaming.ShardManifests(args.slides_manifest, args.tiles_manifest, args.features_manifest),
        tile_settings,
        weights_record.load(
            *(settings, tile_settings, args.features_manifest.parent, device.type, args.threads)
        ),
        args.seed,
        args.threads,
        download.server_settings(args),
        args.slides_folder,
    )
    streaming.stream_shard(args.slides, args.shard, args.shards, consumer)


if __name__ == "__main__":
    cli.run(main)
