"""Encoders: name, vector, tiles and licence of each, and whether it can be used here.

    slide2rna encoders            all rows of the registry
    slide2rna encoders uni2       everything about one encoder, and how to get it

Other names that work: any model of timm, hf-hub:OWNER/NAME, and files.
"""

from __future__ import annotations

from collections.abc import Sequence

from slide2rna.core import cli
from slide2rna.operations import encoder_table


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("name", nargs="?", help="encoder to describe")
    args = parser.parse_args(argv)
    for line in encoder_table.table() if args.name is None else encoder_table.about(args.name):
        print(line)
