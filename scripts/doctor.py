"""`slide2rna doctor` without an installation; see slide2rna/commands/doctor.py."""

from slide2rna.commands.doctor import main
from slide2rna.core import cli

if __name__ == "__main__":
    cli.run(main, stage=False)
