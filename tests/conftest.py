"""What all tests share: the package on the path, and the real data where it is present."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "scripts"))


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real slides and tables that don't ship with the project."""
    path = REPO.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"real data not present ({path.name} folder beside the repository)")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long chains first, and files in one piece where processes share the work (xdist)."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)
    for item in items:
        shared = "demo" in getattr(item, "fixturenames", ()) and "e2e" in item.path.parts
        item.add_marker(pytest.mark.xdist_group("demo" if shared else item.path.name))
