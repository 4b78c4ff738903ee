"""Check of a results folder or a packaged model for damaged files.

    slide2rna verify results/mine
    slide2rna verify model

Compares each table, features file, model and draws file with its checksum. Prints a line per
damaged file with its remedy, and how many files were checked; exit status 1 if one is damaged.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("folder", type=Path, help="results/<cohort>, or a packaged model")
    args = parser.parse_args(argv)

    from slide2rna.operations.verify import verify

    verdict = verify(args.folder)
    for line in verdict.damaged:
        print(f"damaged: {line}")
    print(f"{verdict.intact} files checked, {len(verdict.damaged)} damaged")
    if verdict.unchecked:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(verdict.unchecked.items()))
        print(f"{verdict.unchecked.total()} files have no checksum: {kinds}")
    if verdict.damaged:
        sys.exit(1)
