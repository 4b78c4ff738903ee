"""What a run has cost per stage, and what more slides would: CPU, GPU, memory, disk.

    slide2rna costs results/demo
    slide2rna costs results/mine --slides 5000 --tiles 4000 --out costs.tsv

Prints a table per quantity: as measured, and by a formula (docs/explanation/costs.md) with more
slides of the same settings. Run some hundred slides of your own first: network, genes, encoder and
machine decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli

# A thousand; the slides of the published cohorts; a hospital's archive.
SIZES = (1000, 2121, 100_000)


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("cohort", type=Path, help="results/<cohort>")
    text = "numbers of slides to extrapolate to (default: 1000 2121 100000)"
    parser.add_argument("--slides", type=int, nargs="+", default=SIZES, metavar="N", help=text)
    text = "tiles of a slide to extrapolate to (default: as measured)"
    parser.add_argument("--tiles", type=float, metavar="T", help=text)
    text = "the same as a table: stage, slides, quantity, value (TSV)"
    parser.add_argument("--out", type=Path, help=text)
    args = parser.parse_args(argv)

    from slide2rna.core import files
    from slide2rna.operations import costs

    measured = costs.measure(args.cohort)
    table = costs.cost_table(measured, args.slides, args.tiles)
    print(costs.format_costs(args.cohort, measured, table))
    if args.out is not None:
        files.write_text(table.write_csv(separator="\t"), args.out)
