"""Cost of a finished run by step, with an estimate for a cohort of another size.

    slide2rna costs results/demo
    slide2rna costs results/mine --slides 5000 --tiles 4000 --out costs.tsv

Prints a table per quantity: measured costs, and estimates for more slides with the same settings
(docs/explanation/costs.md). Run a few hundred of your own slides first: costs depend on the
network, the genes, the encoder and the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli

# A thousand slides, the published cohorts, a hospital's archive.
SIZES = (1000, 2121, 100_000)


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("cohort", type=Path, help="results/<cohort>")
    text = "numbers of slides to extrapolate to (default: 1000 2121 100000)"
    parser.add_argument("--slides", type=int, nargs="+", default=SIZES, metavar="N", help=text)
    text = "tiles per slide to extrapolate to (default: as measured)"
    parser.add_argument("--tiles", type=float, metavar="T", help=text)
    text = "write the same as a TSV: stage, slides, quantity, value"
    parser.add_argument("--out", type=Path, help=text)
    args = parser.parse_args(argv)

    from slide2rna.core import files
    from slide2rna.operations import costs

    measured = costs.measure(args.cohort)
    table = costs.cost_table(measured, args.slides, args.tiles)
    print(costs.format_costs(args.cohort, measured, table))
    if args.out is not None:
        files.write_text(table.write_csv(separator="\t"), args.out)
