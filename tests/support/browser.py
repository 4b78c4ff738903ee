"""Chromium under playwright, as the tests of pages use it, and what a page must never do."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NEEDED = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this computer: apt-get install chromium"
)
DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
# Longer than this, a browser hangs.
HANGS_MS = 300_000
# How wrong axe finds something; what is worse than moderate keeps people out.
BAD = ("serious", "critical")


class Opened:
    """A page in a browser, with all that it asked for and complained about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._told)

    def _told(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def ready(self, charts: int) -> None:
        """Wait until this number of charts is drawn."""
        self.page.wait_for_function(
            f"document.querySelectorAll('figure.drawn').length === {charts}", timeout=HANGS_MS
        )

    def wait_for_complaint(self) -> None:
        """Wait until the page has complained about something."""
        end = time.monotonic() + HANGS_MS / 1000
        while not self.complaints and time.monotonic() < end:
            self.page.wait_for_timeout(50)

    def outside(self) -> list[str]:
        """Requests for anything but files of this computer and what the page itself holds."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]

    def violations(self) -> list[str]:
        """What axe-core calls serious or critical."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
            for one in found
            if one["impact"] in BAD
        ]

    def shot(self, name: str) -> None:
        """A picture of the whole page, if the tests keep pictures."""
        if folder := os.environ.get("SLIDE2RNA_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for a module's tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@contextmanager
def opened(
    chromium: Any, path: Path, viewport: dict[str, int] | None = None, **how: Any
) -> Iterator[Opened]:
    """The page at a path, loaded, as a visitor without a history sees it."""
    context = chromium.new_context(viewport=viewport or DESKTOP, **how)
    context.set_default_timeout(HANGS_MS)
    try:
        seen = Opened(context.new_page())
        seen.page.goto(path.as_uri())
        yield seen
    finally:
        context.close()
