"""The catalogue of genes: equal to its table, small, and searched by the page's own script."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest
from slide2rna.pages import numbers
from slide2rna.pages.html import TEMPLATES, render
from slide2rna.report.sections import gene_browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def table(count: int = 250, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    r = np.where(np.arange(count) % 50 == 7, np.nan, rng.uniform(-1, 1, count))
    names = [sorted({f"set {i % 7}", f"odd </script> {i % 3}"}) for i in range(count)]
    return pl.DataFrame(
        {
            "gene": [f"GENE{i:04d}" for i in range(count)],
            "r": r,
            "r_low": r - 0.1,
            "r_high": r + 0.1,
            "r_ridge": rng.uniform(-1, 1, count),
            "fdr": 10 ** rng.uniform(-200, 0, count),
            "site_share": rng.uniform(0, 0.3, count),
            "covered90": rng.uniform(0.8, 1, count),
            "crps": rng.uniform(0.1, 0.8, count),
            "pathways": names,
            "n_pathways": [12] * count,
        }
    ).with_columns(pl.selectors.float().fill_nan(None))


def read(text: str) -> dict:
    return json.loads(text)


def test_catalogue_equals_the_table() -> None:
    genes = table()
    found = read(gene_browser.as_json(gene_browser.build(genes)))
    names = found["gene"]
    assert found["rows"] == len(names) == genes.height
    rows = {row["gene"]: row for row in genes.to_dicts()}
    for place, name in enumerate(names):
        row = rows.pop(name)
        for key, column in gene_browser.COLUMNS.items():
            value = found[key][place]
            if row[column] is None:
                assert value is None
            else:
                assert value / gene_browser.SCALE == pytest.approx(row[column], abs=0.00051)
        assert found["fdr"][place] == pytest.approx(row["fdr"], rel=0.06)
        assert [found["sets"][at] for at in found["of"][place]] == row["pathways"]
        assert found["more"][place] == 12 - len(row["pathways"])
    assert rows == {}
    known = [value for value in found["r"] if value is not None]
    assert known == sorted(known, reverse=True)
    assert found["r"][len(known) :] == [None] * (genes.height - len(known))


def test_columns_that_a_run_lacks_are_null() -> None:
    found = gene_browser.build(table(5).select("gene", "r", "r_low", "r_high"))
    assert found["crps"] == found["fdr"] == [None] * 5
    assert found["sets"] == []
    rows = gene_browser.first_rows(table(5).select("gene", "r"), 2)
    assert len(rows) == 2
    assert rows[0]["covered90"] is None


def test_names_can_not_end_the_script() -> None:
    text = gene_browser.as_json(gene_browser.build(table(3)))
    assert "<" not in text
    assert "odd </script> 0" in read(text)["sets"]


def test_json_of_all_genes_stays_small() -> None:
    text = gene_browser.as_json(gene_browser.build(table(20820)))
    assert len(text) < 2_500_000


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to run the page's script in")
def test_script_searches_sorts_and_pages(tmp_path: Path) -> None:
    """Drive the shipped script in a browser; what it shows is written into the body."""
    genes = table()
    context = {
        "figure": {}, "significant": 1, "counts": {"genes": genes.height}, "coverage": [],
        "run": "run", "model": "flow", "best_null": None, "top_genes": [],
        "catalogue": gene_browser.as_json(gene_browser.build(genes)),
    }  # fmt: skip
    probe = """<script>
    const log = {}, box = document.getElementById("find");
    const names = () => [...document.querySelectorAll("#rows th")].map((x) => x.textContent);
    const said = () => document.getElementById("found").textContent;
    const type = (text) => { box.value = text; box.dispatchEvent(new Event("input")); };
    const press = (key) => document.querySelector(`[data-key=${key}]`).click();
    log.first = [names(), said()];
    document.getElementById("next").click(); document.getElementById("next").click();
    log.last = [names(), said(), document.getElementById("next").disabled];
    type("gene0012"); log.gene = [names(), said()];
    type("set 3"); log.pathway = said();
    type("nothing"); log.none = [names(), said()];
    type(""); press("gene"); log.sorted = names().slice(0, 3);
    press("gene"); log.reversed = names().slice(0, 3);
    press("r"); press("r"); log.worst = names()[0];
    log.row = [...document.querySelector("#rows tr").children].map((x) => x.textContent);
    document.body.dataset.log = encodeURIComponent(JSON.stringify(log));
    </script>"""
    body = render("sections/genes.html.j2", context)
    script = (TEMPLATES / "assets/gene_browser.js.j2").read_text()
    html = f"<!doctype html><meta charset=utf-8><body>{body}<script>{script}</script>{probe}"
    (tmp_path / "page.html").write_text(html)
    dom = subprocess.run(
        [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    ).stdout  # fmt: skip
    log = json.loads(unquote(dom.split('data-log="')[1].split('"')[0]))
    order = gene_browser.ranked(genes)["gene"].to_list()
    assert log["first"] == [order[:100], "Genes 1–100 of 250"]
    assert log["last"] == [order[200:], "Genes 201–250 of 250", True]
    assert log["gene"] == [["GENE0012"], "Genes 1–1 of 1"]
    members = sum("set 3" in names for names in genes["pathways"])
    assert log["pathway"] == f"Genes 1–{members} of {members}"
    assert log["none"] == [[], "No gene or pathway with this name"]
    assert log["sorted"] == ["GENE0000", "GENE0001", "GENE0002"]
    assert log["reversed"] == ["GENE0249", "GENE0248", "GENE0247"]
    worst = genes.filter(pl.col("r").is_not_null()).sort("r").row(0, named=True)
    assert log["worst"] == worst["gene"]
    interval = (
        f"{numbers.format_number(worst['r_low'])} to {numbers.format_number(worst['r_high'])}"
    )
    assert log["row"][1] == numbers.format_number(worst["r"]) + interval
    assert log["row"][-1].endswith("and 10 more")
