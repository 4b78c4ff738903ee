"""Score the samplers of a run (--others) beside the reference (--draws): a table and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from slide2rna import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.scoring_parser(__doc__)
    parser.add_argument(
        "--samplers",
        required=True,
        help="[[label, name, solver, steps, guidance], ...] as JSON, the reference first",
    )
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)

    from slide2rna import config, samplers
    from slide2rna.scoring import Inputs

    settings = config.parse_settings("evaluate", args.settings)
    every = [samplers.Variant(*facts) for facts in json.loads(args.samplers)]
    samplers.write(cli.given(Inputs, args), every, args.out, settings, args.seed, args.threads)


if __name__ == "__main__":
    cli.run(main)
