"""Score the samplers of a run (--others) beside the reference (--draws): a table and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from slide2rna.core import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.scoring_parser(__doc__)
    parser.add_argument(
        "--samplers",
        required=True,
        help="[[label, name, solver, steps, guidance], ...] as JSON, the reference first",
    )
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)

    from slide2rna.core import config
    from slide2rna.evaluation.scoring.evaluated import EvaluationInputs
    from slide2rna.report.figures import samplers as samplers_figure
    from slide2rna.studies.samplers import sampler_table

    settings = config.parse_settings("evaluate", args.settings)
    every = [sampler_table.ScoredSampler(*facts) for facts in json.loads(args.samplers)]
    table = sampler_table.write_samplers(
        cli.from_options(EvaluationInputs, args), every, args.out, settings, args.seed, args.threads
    )
    samplers_figure.write(table, args.out)


if __name__ == "__main__":
    cli.run(main)
