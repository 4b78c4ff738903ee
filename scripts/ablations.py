"""Score the ablations of a run (--others) and the run itself: two tables and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from slide2rna.core import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.scoring_parser(__doc__)
    parser.add_argument("--variants", required=True, help="[[label, name, group], ...] as JSON")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)

    from slide2rna.core import config
    from slide2rna.evaluation.scoring.evaluated import EvaluationInputs
    from slide2rna.report.figures import ablations_chart
    from slide2rna.studies import ablations

    settings = config.parse_settings("evaluate", args.settings)
    variants = [ablations.Ablation(*names) for names in json.loads(args.variants)]
    table = ablations.write_ablations(
        cli.from_options(EvaluationInputs, args),
        variants,
        args.out,
        settings,
        args.seed,
        args.threads,
    )
    ablations_chart.write_ablations(table, args.out)


if __name__ == "__main__":
    cli.run(main)
