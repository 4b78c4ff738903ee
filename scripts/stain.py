"""Change the stain of test tiles, predict their slides again, and measure how far genes move.

Writes stain.parquet (a row per change), slides.parquet and genes.parquet. It reads the slides
again, so cohorts with keep_slides: false or with provided features have no stain report.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config, encoder_names
from slide2rna.core.errors import ConfigError

SECTIONS = ("features", "tiles", "bags", "sample", "stain", "shift")


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    for name, text in (
        ("models", "fold-K folders of the run's models"),
        ("draws", "its fold-K.zarr"),
        ("judged", "its shift/fold-K.parquet"),
        ("familiar", "its shift/fold-K.safetensors"),
        ("slides", "slides/shard-I.parquet"),
        ("tiles", "tiles/shard-I.parquet"),
    ):
        parser.add_argument(f"--{name}", nargs="+", type=Path, required=True, help=text)
    cli.add_slides_folder(parser)
    parser.add_argument("--cohort", type=Path, required=True, help="cohort.json")
    parser.add_argument("--run", required=True, help="name of the run, for the tables")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    for name in SECTIONS:
        parser.add_argument(f"--{name}-settings", default="{}", help=f"section {name} as JSON")
    cli.add_machine(parser, threads=2, device=True)
    args = parser.parse_args(argv)
    settings = {
        name: config.parse_settings(name, getattr(args, f"{name}_settings")) for name in SECTIONS
    }
    if settings["features"]["encoder"] == "files":
        cause = "provided features have no tiles to stain"
        raise ConfigError("features.encoder: files", cause, "choose another encoder")
    cli.set_threads(args.threads)

    import torch
    from slide2rna.core import devices
    from slide2rna.features import registry, weights_record
    from slide2rna.studies.stain import stain, tables

    torch.set_num_threads(args.threads)
    device = devices.choose_device(args.device)
    made = args.cohort.parent / "features" / encoder_names.label(settings["features"])
    features = weights_record.pinned(settings["features"], made)
    encoder = registry.load(features, device.type, args.threads, settings["tiles"]["tile_px"])
    sections = {name: settings[name] for name in ("tiles", "bags", "sample", "stain")}
    setup = stain.EncodingSetup(
        encoder, seed=args.seed, threads=args.threads, device=device, **sections
    )
    inputs = cli.from_options(stain.StainInputs, args)
    tables.write(inputs, setup, args.run, args.out, settings["shift"]["alpha"])


if __name__ == "__main__":
    cli.run(main)
