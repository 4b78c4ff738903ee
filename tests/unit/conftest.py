"""What tests share: a server that misbehaves on demand, where a file goes, a packaged model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fault_server import FaultServer
from fetching import CONTENT

if TYPE_CHECKING:
    import packaged


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({"/a": CONTENT}) as running:
        yield running


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "files" / "a.svs"


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> packaged.Packaged:
    """A packaged model of random weights that takes features from files; not to be changed."""
    import packaged

    return packaged.make(tmp_path_factory.mktemp("packed") / "cohort")
