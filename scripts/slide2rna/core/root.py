"""Root of the project: the folder with schemas, resources and pyproject.toml.

In a checkout they lie beside scripts/. A wheel carries copies inside the package.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE if (PACKAGE / "pyproject.toml").is_file() else PACKAGE.parents[1]
