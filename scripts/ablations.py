"""Score the ablations of a run (--others) beside the run itself: two tables and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from slide2rna import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.scoring_parser(__doc__)
    parser.add_argument("--variants", required=True, help="[[label, name, group], ...] as JSON")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)

    from slide2rna import ablations, config
    from slide2rna.scoring import Inputs

    settings = config.parse_settings("evaluate", args.settings)
    variants = [ablations.Variant(*names) for names in json.loads(args.variants)]
    ablations.write(cli.given(Inputs, args), variants, args.out, settings, args.seed, args.threads)


if __name__ == "__main__":
    cli.run(main)
