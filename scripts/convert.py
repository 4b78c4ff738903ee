"""`slide2rna convert` without an installation; see slide2rna/commands/convert.py."""

from slide2rna.commands.convert import main
from slide2rna.core import cli

if __name__ == "__main__":
    cli.run(main, stage=False)
