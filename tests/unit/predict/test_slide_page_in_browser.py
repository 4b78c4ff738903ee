"""The page of one slide in a browser: no error, request or barrier; search and order by keys."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import predictions_made as made
import pytest
from PIL import Image
from slide2rna.predict import slide_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the page with")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slide")
    Image.new("RGB", (600, 400), (230, 180, 210)).save(folder / "tiles.jpg")
    prediction = made.make(genes=130)
    return slide_page.write(prediction, folder / "tiles.jpg", made.ABOUT, folder / "index.html")


@pytest.mark.parametrize("width", [1200, 390])
def test_no_error_no_request_no_barrier(browser, path: Path, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    found = axe.Axe().run(opened).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    # Nothing but what may scroll is wider than the window.
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert len(opened.pdf(format="A4")) > 20_000
    opened.close()


def test_search_and_order_by_keyboard(browser, path: Path) -> None:
    opened = browser.new_page()
    opened.goto(path.as_uri())
    first = opened.locator("#rows tr th").first
    assert opened.locator("#rows tr").count() == 50
    assert opened.locator("#found").inner_text() == "Genes 1–50 of 130"
    assert first.inner_text() == "GENE129"  # weak, and farthest from the training average
    opened.focus("#find")
    opened.keyboard.type("gene12, gene7")
    # GENE7 and GENE12 in full come first, then what begins like them.
    names = opened.locator("#rows tr th").all_inner_texts()
    assert set(names[:2]) == {"GENE7", "GENE12"}
    assert len(names) == 2 + 10 + 10
    assert "greyed" in opened.locator("#rows tr", has_text="GENE128").get_attribute("class")
    opened.fill("#find", "nothing")
    assert opened.locator("#found").inner_text() == "No gene with this name"
    opened.fill("#find", "")
    button = opened.locator("#catalogue th button[data-key=value]")
    button.focus()
    opened.keyboard.press("Enter")
    assert button.locator("..").get_attribute("aria-sort") == "descending"
    assert first.inner_text() == "GENE129"
    opened.keyboard.press("Enter")
    assert button.locator("..").get_attribute("aria-sort") == "ascending"
    assert first.inner_text() == "GENE0"
    opened.locator("#next").press("Enter")
    assert opened.locator("#found").inner_text() == "Genes 51–100 of 130"
    opened.close()


def test_the_first_stop_of_the_keyboard_skips_to_the_content(browser, path: Path) -> None:
    opened = browser.new_page()
    opened.goto(path.as_uri())
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.getAttribute('href')") == "#main"
    box = opened.locator(".jump").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    opened.close()
