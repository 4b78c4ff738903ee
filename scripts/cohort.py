"""`slide2rna cohort` without an installation; see slide2rna/commands/cohort.py."""

from slide2rna.commands.cohort import main
from slide2rna.core import cli

if __name__ == "__main__":
    cli.run(main)
