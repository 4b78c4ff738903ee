"""`slide2rna predict` without an installation; see slide2rna/commands/predict.py."""

from slide2rna import cli
from slide2rna.commands.predict import main

if __name__ == "__main__":
    cli.run(main)
