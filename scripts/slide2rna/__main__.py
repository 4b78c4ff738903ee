"""Command `slide2rna`: the subcommands that people call; Snakemake calls the stages."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

from slide2rna import __version__, commands
from slide2rna.core import cli

NAMES = ["doctor", "predict", "maps", "cohort", "costs", "convert", "encoders", "verify"]
FOLDER = Path(commands.__file__).parent


def help_text() -> str:
    """Return the text of `slide2rna --help`: a line per subcommand, from its docstring."""
    available = [name for name in NAMES if (FOLDER / f"{name}.py").is_file()]
    lines = [f"  {name:9} {_first_line(name)}" for name in available]
    return "\n".join(
        [
            f"slide2rna {__version__}: gene expression from H&E slides, with its uncertainty",
            "",
            "usage: slide2rna <command> [options]     (slide2rna <command> --help says more)",
            "",
            *lines,
            "",
            "Run whole cohorts with Snakemake: snakemake --cores 16",
        ]
    )


def _first_line(name: str) -> str:
    """Read the first docstring line of a subcommand from its file, without an import."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").splitlines()[0]


def main() -> None:
    """Run the subcommand that the first argument names."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        cli.run(lambda _: print(help_text()), stage=False)
        return
    if name in ("-V", "--version"):
        print(f"slide2rna {__version__}")
        return
    if name not in NAMES or not (FOLDER / f"{name}.py").is_file():
        print(f"error: slide2rna {name}: no such command; see slide2rna --help", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"slide2rna {name}", *rest]  # the program's name in argparse and in the log
    cli.run(import_module(f"slide2rna.commands.{name}").main, rest, stage=False)


if __name__ == "__main__":
    main()
