"""Fetch, tile, encode and delete the slides of a shard one after the other (keep_slides: false).

Leaves the manifests of the stages download, tiles and features. A rerun goes on with the next
slide; a slide that fails is named in the manifests. Slides of your own are never deleted.
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
    for stage in ("slides", "tiles", "features"):
        parser.add_argument(f"--{stage}-manifest", type=Path, required=True, help="to be written")
    parser.add_argument("--settings", default="{}", help="section features as JSON")
    parser.add_argument("--tile-settings", default="{}", help="section tiles as JSON")
    cli.add_machine(parser, threads=2, device=True)
    args = download.parse(parser, argv)
    settings = config.parse_settings("features", args.settings)
    if settings["encoder"] == "files":
        cause = "with encoder files no slide is read, so there is none to throw away"
        raise ConfigError("keep_slides: false", cause, "choose another encoder, or keep_slides")
    tile_settings = config.parse_settings("tiles", args.tile_settings)
    cli.set_threads(args.threads)

    from slide2rna.core import devices
    from slide2rna.features import registry, streaming

    device = devices.choose_device(args.device)
    consumer = streaming.SlideStreamer(
        streaming.ShardManifests(args.slides_manifest, args.tiles_manifest, args.features_manifest),
        tile_settings,
        registry.load(settings, device.type, args.threads, tile_settings["tile_px"]),
        args.seed,
        args.threads,
        download.server_settings(args),
    )
    streaming.stream_shard(args.slides, args.shard, args.shards, consumer)


if __name__ == "__main__":
    cli.run(main)
