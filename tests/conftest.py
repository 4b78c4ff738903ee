"""What all tests share: the repository, the real data where it is present, and the mark `slow`."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from slow_tests import Watch, is_slow
from xdist.scheduler import LoadFileScheduling

REPO = Path(__file__).resolve().parents[1]
# Two processes share two cores; a second thread in each would only wait for the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# How long an example takes says how busy the machine is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


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


# Files whose tests share what takes minutes to make: the finished demo, an undisturbed run.
TOGETHER = {
    "demo": ("/e2e/test_demo_",),
    "quiet": (
        *("/soak/test_bit_flips", "/soak/test_kill"),
        *("/soak/test_random_kills", "/soak/test_troubles"),
    ),
}
LONG = {"quiet", "slurm"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long chains first, and the mark `slow` where the code shows it."""
    for item in items:
        if is_slow(item):
            item.add_marker(pytest.mark.slow)
    items.sort(
        key=lambda item: (
            "e2e" not in item.path.parts and not LONG & set(getattr(item, "fixturenames", ()))
        )
    )


watch = Watch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Begin to watch what the test does."""
    watch.begin()
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that starts a process or trains, and isn't marked slow."""
    result = yield
    if "unit" in item.path.parts and item.get_closest_marker("slow") is None:
        assert not watch.acts, f"mark it slow: {sorted(set(watch.acts))}"
    return result


class InPieces(LoadFileScheduling):
    """A file's tests in one process, and in one all files that share something."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        shared = (n for n, starts in TOGETHER.items() if any(start in file for start in starts))
        return next(shared, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InPieces:
    """How two processes share the tests (`pytest -n 2`)."""
    return InPieces(config, log)
