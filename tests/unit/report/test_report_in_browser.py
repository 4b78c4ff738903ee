"""The report with every section, in a browser: quiet, offline, usable by keyboard, printable."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import browser
import pytest
from browser import chromium
from slide2rna.report.sections import gene_browser
from written_reports import folder, full, load

__all__ = ["chromium", "folder", "full"]  # the fixtures
pytestmark = browser.NEEDED
CHARTS = 4


@pytest.fixture(scope="module")
def seen(chromium: Any, full: Path) -> Iterator[browser.Opened]:
    with browser.opened(chromium, full / "report" / "index.html") as opened:
        opened.ready(CHARTS)
        yield opened


def test_it_loads_without_complaint_and_asks_for_nothing(seen: browser.Opened, full: Path) -> None:
    assert seen.complaints == []
    assert seen.outside() == []
    assert [url for url in seen.requests if url.startswith("file:")] == [
        (full / "report" / "index.html").as_uri()
    ]
    seen.shot("full-desktop")


def test_the_policy_stops_what_would_reach_out(chromium: Any, full: Path, tmp_path: Path) -> None:
    """The same page with a picture from elsewhere: blocked before it is asked for."""
    text = (full / "report" / "index.html").read_text()
    # The charts would take the most time and are not what is tried here.
    text = text[: text.index("<script>")] + '<img src="http://127.0.0.1:9/x.png" alt="x"></body>'
    (tmp_path / "page.html").write_text(text)
    with browser.opened(chromium, tmp_path / "page.html") as opened:
        opened.wait_for_complaint()
        assert any("Content Security Policy" in line for line in opened.complaints)


def test_axe_finds_nothing_serious(seen: browser.Opened) -> None:
    assert seen.violations() == []


def test_headings_go_down_one_level_at_a_time(seen: browser.Opened) -> None:
    levels = seen.page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((x) => Number(x.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_every_figure_is_a_picture_or_a_drawn_chart(seen: browser.Opened) -> None:
    shown = seen.page.evaluate("""[...document.querySelectorAll("figure[id]")].map((figure) => {
        const marks = figure.querySelectorAll(".chart canvas, .chart svg").length;
        const image = figure.querySelector(".image");
        return [figure.id, marks, image.getBoundingClientRect().height > 0];
    })""")
    charts = {name for name, marks, _ in shown if marks}
    assert charts == {f"figure-{c}" for c in ("models", "gene_nulls", "reliability", "ablations")}
    assert all(pictured == (name not in charts) for name, _, pictured in shown)


def test_search_and_sort_by_keyboard_alone(seen: browser.Opened, full: Path) -> None:
    page = seen.page
    order = gene_browser.ranked(load(full).tables["genes"])["gene"].to_list()

    def first() -> str:
        return str(page.text_content("#rows th"))

    page.focus("#find")
    page.keyboard.type(order[3])
    assert page.text_content("#found") == "Genes 1–1 of 1"
    assert first() == order[3]
    for _ in order[3]:
        page.keyboard.press("Backspace")
    assert first() == order[0]
    # Past "Next" (there is no earlier page to go to) to the head of the first column.
    while page.evaluate("document.activeElement.dataset.key") != "gene":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    head = page.locator("#catalogue th", has_text="Gene").first
    assert head.get_attribute("aria-sort") == "ascending"
    assert first() == min(order, key=str.lower)
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert first() == max(order, key=str.lower)
    assert page.locator("#catalogue th[aria-sort]").count() == 1


def test_a_search_is_marked_in_the_chart_of_genes(seen: browser.Opened, full: Path) -> None:
    seen.page.evaluate("""document.addEventListener("genes-found", (event) => {
        document.body.dataset.hits = event.detail.length;
    })""")
    genes = load(full).tables["genes"]
    part = genes["gene"][5][:-1]
    seen.page.fill("#find", part)
    hits = sum(part.lower() in name.lower() for name in genes["gene"])
    inside = [any(part.lower() in n.lower() for n in names) for names in genes["pathways"]]
    assert int(seen.page.evaluate("document.body.dataset.hits")) >= hits >= 1
    assert int(seen.page.evaluate("document.body.dataset.hits")) <= hits + sum(inside)
    seen.page.fill("#find", "")
    assert seen.page.evaluate("document.body.dataset.hits") == "0"


def test_a_slide_opens_large_and_the_focus_comes_back(seen: browser.Opened) -> None:
    page = seen.page
    names = page.locator(".gallery figcaption b").all_text_contents()
    page.focus(".gallery .zoom >> nth=0")
    page.keyboard.press("Enter")
    assert page.locator("dialog").get_attribute("open") is not None
    assert page.text_content("#viewer-name") == names[0]
    page.keyboard.press("ArrowRight")
    assert page.text_content("#viewer-name") == names[1]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.text_content("#viewer-name") == names[-1]
    page.keyboard.press("Escape")
    assert page.locator("dialog").get_attribute("open") is None
    assert page.evaluate("document.activeElement.className") == "zoom"


def test_the_first_tab_leads_past_the_navigation(chromium: Any, full: Path) -> None:
    with browser.opened(chromium, full / "report" / "index.html") as opened:
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        opened.page.keyboard.press("Enter")
        assert opened.page.evaluate("document.activeElement.id") == "main"


def test_a_phone_needs_no_sideways_scrolling(chromium: Any, full: Path) -> None:
    with browser.opened(
        chromium, full / "report" / "index.html", browser.PHONE, is_mobile=True
    ) as opened:
        opened.ready(CHARTS)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
        opened.shot("full-phone")


def test_it_prints_pictures_in_the_charts_places(seen: browser.Opened, tmp_path: Path) -> None:
    seen.page.emulate_media(media="print")
    shown = seen.page.evaluate("""[...document.querySelectorAll("figure.drawn")].map((figure) => [
        figure.querySelector(".image").getBoundingClientRect().height > 50,
        figure.querySelector(".chart").getBoundingClientRect().height])""")
    assert shown == [[True, 0]] * CHARTS
    seen.page.emulate_media(media="screen")
    seen.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    start = (tmp_path / "report.pdf").read_bytes()
    assert start.startswith(b"%PDF")
    assert start.count(b"/Type /Page\n") >= 5


def test_without_scripts_the_pictures_and_the_first_genes_stand(chromium: Any, full: Path) -> None:
    path = full / "report" / "index.html"
    with browser.opened(chromium, path, java_script_enabled=False) as opened:
        page = opened.page
        assert (
            page.locator("figure[id] .image img:visible").count()
            == page.locator("figure[id]").count()
        )
        assert page.locator("noscript table").is_visible()
        assert not page.locator("#catalogue").is_visible()
