"""`slide2rna encoders` without an installation; see slide2rna/commands/encoders.py."""

from slide2rna.commands.encoders import main
from slide2rna.core import cli

if __name__ == "__main__":
    cli.run(main, stage=False)
