"""Score a run's draws and points against measured expression, beside the null models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--draws", nargs="+", type=Path, required=True, help="fold-*.zarr")
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="fold-* folders")
    parser.add_argument("--bags", type=Path, required=True)
    parser.add_argument("--expression", type=Path, required=True)
    parser.add_argument("--slides", type=Path, required=True)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--cohort", type=Path, required=True, help="cohort.json")
    parser.add_argument("--pathways", type=Path, required=True)
    parser.add_argument("--run", required=True, help="name of the run, for the tables")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--settings", default="{}", help="section evaluate as JSON")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)

    from slide2rna import config, evaluate
    from slide2rna.scoring import Inputs

    inputs = Inputs(
        draws=args.draws,
        models=args.models,
        bags=args.bags,
        expression=args.expression,
        slides=args.slides,
        splits=args.splits,
        cohort=args.cohort,
        pathways=args.pathways,
    )
    settings = config.parse_settings("evaluate", args.settings)
    evaluate.evaluate(inputs, args.run, args.out, settings, args.seed, args.threads)


if __name__ == "__main__":
    cli.run(main)
