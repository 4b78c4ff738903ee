"""`slide2rna maps` without an installation; see slide2rna/commands/maps.py."""

from slide2rna.commands.maps import main
from slide2rna.core import cli

if __name__ == "__main__":
    cli.run(main, stage=False)
