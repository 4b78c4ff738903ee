"""Root of the repository, which holds schemas, resources and pyproject.toml."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
