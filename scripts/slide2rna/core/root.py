"""The repository's root: schemas, resources and pyproject.toml lie beside the package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
