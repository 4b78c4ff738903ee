"""The demo's report in a browser: what a person gets who types the README's command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import polars as pl
import pytest
from browser import chromium
from slide2rna.report.sections import gene_browser

__all__ = ["chromium"]  # the fixture
pytestmark = [browser.NEEDED, pytest.mark.timeout(3600)]
RUN = "lite0-flow-go-bp"
CHARTS = 3
LARGEST = 6_000_000


@pytest.fixture(scope="module")
def seen(chromium: Any, demo: Path) -> Iterator[browser.Opened]:
    with browser.opened(chromium, demo / "report" / "index.html") as opened:
        opened.ready(CHARTS)
        yield opened


def test_it_is_quiet_offline_and_open_to_all(seen: browser.Opened) -> None:
    assert seen.complaints == []
    assert seen.outside() == []
    assert seen.violations() == []
    seen.shot("demo-desktop")


def test_links_between_its_parts_and_to_its_tables_lead_somewhere(
    seen: browser.Opened, demo: Path
) -> None:
    links = seen.page.evaluate("[...document.links].map((a) => a.getAttribute('href'))")
    inner = {link[1:] for link in links if link.startswith("#")}
    assert {"short", "results", "genes", "slides", "cite", "glossary", "term-pcc"} <= inner
    assert inner <= set(seen.page.evaluate("[...document.querySelectorAll('[id]')].map(x => x.id)"))
    for link in links:
        if not link.startswith(("#", "https://")):
            assert (demo / "report" / link).is_file(), link


def test_search_and_sort_by_keyboard_show_the_tables_genes(
    seen: browser.Opened, demo: Path
) -> None:
    genes = pl.read_parquet(demo / "evaluation" / RUN / "genes.parquet")
    order = gene_browser.ranked(genes)["gene"].to_list()
    page = seen.page
    assert page.text_content("#rows th") == order[0]
    page.focus("#find")
    page.keyboard.type("BRCA1")
    # Names of genes and of their pathways both count.
    shown = page.locator("#rows th").all_text_contents()
    assert "BRCA1" in shown
    page.fill("#find", "")
    page.focus("#catalogue th [data-key=crps]")
    page.keyboard.press("Enter")
    assert page.text_content("#rows th") == genes.sort("crps", descending=True)["gene"][0]
    assert page.get_attribute("#catalogue th:has([data-key=crps])", "aria-sort") == "descending"


def test_the_flow_names_every_slide_and_the_one_that_failed(seen: browser.Opened) -> None:
    text = " ".join(seen.page.inner_text("section[aria-labelledby=cohort]").split())
    assert re.search(r"In the sheet 130 – 120", text)
    assert re.search(r"With features \(in the bags\) 129 1 120", text)
    assert "DEMO-051-S2 tiles too little tissue" in text


def test_the_configuration_stands_as_it_was_run(seen: browser.Opened) -> None:
    shown = seen.page.text_content("pre[aria-label='Configuration as run']")
    assert "min_tiles: 4" in str(shown)
    assert "k: 16" in str(shown)


def test_it_fits_a_phone_a_mail_and_a_sheet_of_paper(
    chromium: Any, demo: Path, tmp_path: Path
) -> None:
    path = demo / "report" / "index.html"
    assert path.stat().st_size < LARGEST
    with browser.opened(chromium, path, browser.PHONE, is_mobile=True) as opened:
        opened.ready(CHARTS)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
        opened.shot("demo-phone")
    # The width between the margins of A4 at 96 dots per inch.
    with browser.opened(chromium, path, {"width": 688, "height": 1000}) as opened:
        opened.ready(CHARTS)
        opened.page.emulate_media(media="print")
        opened.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = 1")
        wide = opened.page.evaluate(
            "[...document.querySelectorAll('table, pre, figure img')].map("
            "(x) => x.getBoundingClientRect().right)"
        )
        assert max(wide) <= 690
        opened.shot("demo-print")
        opened.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
        assert 500_000 < (tmp_path / "report.pdf").stat().st_size < LARGEST
