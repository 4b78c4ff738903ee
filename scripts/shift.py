"""How far a fold's slides lie from its train part: distances of bags and of predicted profiles.

Leaves a table of the val, cal and test slides, and a file by which new slides can be judged.
"""

from __future__ import annotations

from collections.abc import Sequence

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_paths(
        parser,
        draws="the run's fold-K.zarr",
        **cli.COHORT,
        out="table to write (Parquet)",
        saved="file for new slides to write (safetensors)",
    )
    parser.add_argument("--run", required=True, help="name of the run, for the table")
    parser.add_argument("--settings", default="{}", help="section shift as JSON")
    cli.add_machine(parser, threads=1)
    args = parser.parse_args(argv)
    settings = config.parse_settings("shift", args.settings)
    cli.set_threads(args.threads)

    from slide2rna.studies.shift import distances

    inputs = cli.from_options(distances.ShiftInputs, args)
    distances.measure_shift(
        inputs, args.run, args.out, args.saved, settings, args.seed, args.threads
    )


if __name__ == "__main__":
    cli.run(main)
