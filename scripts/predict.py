"""`slide2rna predict` without an installation; see slide2rna/commands/predict.py."""

from slide2rna.commands.predict import main
from slide2rna.core import cli

if __name__ == "__main__":
    cli.run(main, stage=False)
