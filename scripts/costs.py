"""`slide2rna costs` without an installation; see slide2rna/commands/costs.py."""

from slide2rna.commands.costs import main
from slide2rna.core import cli

if __name__ == "__main__":
    cli.run(main, stage=False)
