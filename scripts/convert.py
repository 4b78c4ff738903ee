"""`slide2rna convert` without an installation; see slide2rna/commands/convert.py."""

from slide2rna import cli
from slide2rna.commands.convert import main

if __name__ == "__main__":
    cli.run(main, stage=False)
