"""What the tests of downloads share: a server that misbehaves on demand, and where a file goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fault_server import FaultServer
from fetching import CONTENT


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({"/a": CONTENT}) as running:
        yield running


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "files" / "a.svs"
