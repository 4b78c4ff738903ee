"""Generate a cohort with a known truth: `demo` (painted slides), `law` or `law2` (features)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--kind", choices=["demo", "law", "law2"], required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to fill")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="number of processes that paint")
    arguments = parser.parse_args(argv)
    cli.set_threads(1)

    from slide2rna.simulate import generate

    generate.make(arguments.kind, arguments.out, arguments.seed, arguments.workers)


if __name__ == "__main__":
    cli.run(main)
