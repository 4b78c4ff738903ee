"""Encode the tiles of a shard's slides, or check provided features.

Encoder `files` takes <slide_id>.h5 from features.path (datasets features and coords, as TRIDENT,
CLAM and STAMP write them) and needs no tiles. Level `slide` takes one vector per slide, from
such files or from a table with a row per slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config
from slide2rna.core.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--shard", type=Path, required=True, help="slides/shard-I.parquet")
    cli.add_slides_folder(parser)
    parser.add_argument("--tiles", type=Path, help="folder of the tiles stage")
    parser.add_argument("--tiles-manifest", type=Path, help="tiles/shard-I.parquet")
    parser.add_argument("--out", type=Path, required=True, help="features/ENCODER")
    parser.add_argument("--manifest", type=Path, required=True, help="features/ENCODER/shard-I")
    parser.add_argument("--stamps", type=Path, help="stamps of provided features, as planned")
    parser.add_argument("--settings", default="{}", help="section features as JSON")
    parser.add_argument("--tile-settings", default="{}", help="section tiles as JSON")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    settings = config.parse_settings("features", args.settings)
    tile_settings = config.parse_settings("tiles", args.tile_settings)
    cli.set_threads(args.threads)

    from slide2rna.core import devices
    from slide2rna.features import extract, provided, weights_record

    provided.check_level(settings)

    if settings["encoder"] == "files":
        if settings["path"] is None:
            raise ConfigError("features.path", "missing", "name the folder of <slide_id>.h5")
        source = Path(settings["path"])
        provided.check_provided_features(
            args.shard, source, args.out, args.manifest, settings["level"], args.stamps
        )
        return
    if args.tiles is None or args.tiles_manifest is None:
        raise ConfigError("--tiles", "missing", "every encoder except files needs tiles")
    device = devices.choose_device(args.device)
    encoder = weights_record.load(settings, tile_settings, args.out, device.type, args.threads)
    extract.extract_shard(
        args.shard,
        args.tiles,
        args.tiles_manifest,
        args.out,
        args.manifest,
        encoder,
        tile_settings,
        args.threads,
        args.slides_folder,
    )


if __name__ == "__main__":
    cli.run(main)
