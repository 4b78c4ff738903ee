"""`slide2rna verify` without an installation; see slide2rna/commands/verify.py."""

from slide2rna.commands.verify import main
from slide2rna.core import cli

if __name__ == "__main__":
    cli.run(main, stage=False)
