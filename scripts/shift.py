"""Score how far slides lie from training: `distances` per fold, then `abstention` of the run.

python scripts/shift.py distances --help
python scripts/shift.py abstention --help
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    about = "distances of a fold's val, cal and test slides, and a file to judge new slides by"
    distances = steps.add_parser("distances", help=about, description=about)
    cli.add_paths(
        distances,
        draws="the run's fold-K.zarr",
        **cli.COHORT,
        out="table to write (Parquet)",
        saved="file for new slides to write (safetensors)",
    )
    about = "scores on the share of test patients that the run answers for"
    abstention = steps.add_parser("abstention", help=about, description=about)
    for name, text in (("draws", "the run's fold-*.zarr"), ("shift", "its shift/fold-*.parquet")):
        abstention.add_argument(f"--{name}", nargs="+", type=Path, required=True, help=text)
    cli.add_paths(
        abstention,
        evaluation="folder of the run's evaluation",
        **cli.COHORT,
        out="table to write (Parquet)",
    )
    for step in (distances, abstention):
        step.add_argument("--run", required=True, help="name of the run, for the table")
        step.add_argument("--settings", default="{}", help="section shift as JSON")
        cli.add_machine(step, threads=1)
    args = parser.parse_args(argv)
    settings = config.parse_settings("shift", args.settings)
    cli.set_threads(args.threads)

    from slide2rna.studies.shift import abstention as curves
    from slide2rna.studies.shift import distances as measured

    if args.step == "abstention":
        answered = cli.from_options(curves.AbstentionInputs, args)
        curves.abstention_table(answered, args.run, args.out, settings, args.seed)
        return
    measured.measure_shift(
        cli.from_options(measured.ShiftInputs, args),
        args.run,
        args.out,
        args.saved,
        settings,
        args.seed,
        args.threads,
    )


if __name__ == "__main__":
    cli.run(main)
