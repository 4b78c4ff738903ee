"""`slide2rna maps` without an installation; see slide2rna/commands/maps.py."""

from slide2rna import cli
from slide2rna.commands.maps import main

if __name__ == "__main__":
    cli.run(main, stage=False)
