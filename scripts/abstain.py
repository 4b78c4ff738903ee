"""Score a run on the share of test patients that it answers for, farthest slides left out first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    for name, text in (("draws", "the run's fold-*.zarr"), ("shift", "its shift/fold-*.parquet")):
        parser.add_argument(f"--{name}", nargs="+", type=Path, required=True, help=text)
    cli.add_paths(
        parser,
        evaluation="folder of the run's evaluation",
        **cli.COHORT,
        out="table to write (Parquet)",
    )
    parser.add_argument("--run", required=True, help="name of the run, for the table")
    parser.add_argument("--settings", default="{}", help="section shift as JSON")
    cli.add_machine(parser, threads=1)
    args = parser.parse_args(argv)
    settings = config.parse_settings("shift", args.settings)
    cli.set_threads(args.threads)

    from slide2rna.studies.shift import abstention

    inputs = cli.from_options(abstention.AbstentionInputs, args)
    abstention.abstention_table(inputs, args.run, args.out, settings, args.seed)


if __name__ == "__main__":
    cli.run(main)
