"""Cohort flow, glossary, citations, versions and configuration on the page."""

from __future__ import annotations

import base64
import io
import re
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image
from slide2rna import STEP_VERSIONS
from slide2rna.models import registry
from slide2rna.pages import glossary, html
from slide2rna.report import report
from slide2rna.report.sections import page_sections, references, run_facts, run_tables
from written_reports import folder, full, load

__all__ = ["folder", "full"]  # the fixtures


def test_the_flow_ends_with_what_was_scored(folder: Path) -> None:
    run = load(folder)
    flow = run_facts.flow(run)
    assert [step["step"] for step in flow[-2:]] == [
        "with features (in the bags)",
        "scored in a test part",
    ]
    # The last two slides failed, of the last two patients.
    assert flow[-2]["slides"] == len(run.bags.slide_ids) == run.slides.height - 2
    assert flow[-1]["patients"] == run.tables["samples"]["patient_id"].n_unique()
    assert flow[0]["lost"] is None
    for before, step in pairwise(flow):
        assert step["lost"] == before["slides"] - step["slides"] >= 0


def test_parts_of_a_fold_add_up_to_the_units(folder: Path) -> None:
    run = load(folder)
    rows = run_facts.folds(run)
    assert [row["fold"] for row in rows] == sorted(set(run.splits["fold"]))
    for row in rows:
        own = run.splits.filter(pl.col("fold") == row["fold"])
        assert row["train"] + row["val"] + row["cal"] + row["test"] == own["unit"].n_unique()
        assert row["cal"] == own.filter(pl.col("part") == "cal").height > 0


def test_reasons_are_counted_without_what_names_one_slide() -> None:
    dropped = [{"reason": "frozen tissue (TS1)"}, {"reason": "frozen tissue (BS2)"}]
    dropped += [{"reason": "no expression: P1"}, {"reason": None}]
    assert run_facts.reasons(dropped) == [
        ("frozen tissue", 2), ("no expression", 1), ("no reason given", 1),
    ]  # fmt: skip


def test_every_term_is_linked_once_and_every_link_leads_to_its_term(full: Path) -> None:
    text = (full / "report/index.html").read_text()
    linked = re.findall(r'<a class="term" href="#term-([\w-]+)">', text)
    assert len(linked) == len(set(linked))
    # All but shift, whose section this run lacks.
    assert set(linked) == set(glossary.TERMS) - {"shift"}
    for key in glossary.TERMS:
        assert text.count(f'<dt id="term-{key}">') == 1


def test_a_term_is_linked_where_it_first_comes_and_escaped() -> None:
    term = html.linker()
    assert str(term("pcc", "r < 1")) == '<a class="term" href="#term-pcc">r &lt; 1</a>'
    assert str(term("pcc")) == "correlation, PCC"
    with pytest.raises(KeyError):
        term("no-such-term")


def works(source: str, name: str, **more: object) -> list[str]:
    given: dict = {"models": ["flow", "ridge"], "encoder": "uni", "pathway_set": "go-bp"} | more
    found = references.references({"source": source, "name": name}, **given)
    assert len({work.key for work in found}) == len(found)
    return [work.key for work in found]


def test_works_cited_are_those_used() -> None:
    assert works("gdc", "LUAD") == [
        "slide2rna", "song2026rnafm", "chen2024uni", "ashburner2000go", "go2021", "tcga2014luad",
        "grossman2016gdc",
    ]  # fmt: skip
    assert "clark2013tcia" in works("gdc", "CPTAC-LUAD")
    assert "tcga2014luad" not in works("gdc", "CPTAC-LUAD")
    assert works("her2st", "anything")[-1] == "andersson2021her2st"
    own = works("sheet", "LUAD", models=["abmil", "abmil.seed-2"], encoder="files", pathway_set="x")
    assert own == ["slide2rna", "ilse2018abmil"]
    joint = works("her2st", "x", encoder="uni2-virchow2")
    assert "chen2024uni" in joint
    assert "vorontsov2024virchow" not in joint
    assert "vorontsov2024virchow" in works("her2st", "x", encoder="uni2-virchow")


def test_bibtex_is_whole_and_links_lead_to_dois() -> None:
    encoders = ("lite0", "resnet50", "uni", "uni2-virchow", "gigapath")
    cohorts = [("gdc", name) for name in ("LUAD", "BRCA", "COAD", "CPTAC-LUAD")]
    every = {
        work.key: work
        for source, name in [*cohorts, ("her2st", "her2st")]
        for encoder in encoders
        for work in references.references(
            {"source": source, "name": name}, ["flow", *registry.NETWORKS], encoder, "go-bp"
        )
    }
    groups = yaml.safe_load(references.SOURCE.read_text())
    entries = [work for group in groups.values() for work in group.values()]
    assert len(every) == len({one["key"] for work in entries for one in np.ravel(work)})
    for work in every.values():
        text = work.bibtex
        assert re.match(r"@(article|inproceedings|software)\{\w+,\n", text)
        assert text.count("{") == text.count("}")
        assert {"author", "title", "year"} <= set(work.fields)
        assert re.fullmatch(r"10\.\d{4,9}/\S+", work.fields.get("doi", "10.1000/x"))
        assert work.key == "slide2rna" or work.link.startswith("https://")
        assert "{" not in work.text
    assert every["tan2019efficientnet"].text.startswith("Tan and Le: EfficientNet: Rethinking")
    assert every["grossman2016gdc"].text.startswith("Grossman et al.: Toward a Shared Vision")


def test_versions_are_those_installed_and_steps_those_of_the_package() -> None:
    found = dict(run_facts.packages())
    assert found["torch"] == metadata.version("torch")
    assert {"slide2rna", "Python", "numpy", "openslide-bin"} <= set(found)
    assert dict(run_facts.steps()) == STEP_VERSIONS
    assert run_facts.seeds([{"seed": 3}, {"seed": 1}, {"seed": 3}, {}]) == [1, 3]


def test_the_configuration_is_shown_as_run_without_places(full: Path) -> None:
    settings = {"features": {"encoder": "files", "path": "/home/someone/uni"}, "bags": {"k": 7}}
    shown = run_facts.configuration(settings)
    assert shown is not None
    assert yaml.safe_load(shown) == {
        "features": {"encoder": "files", "path": "uni"}, "bags": {"k": 7},
    }  # fmt: skip
    assert run_facts.configuration(None) is None
    run = run_tables.load(full, "lite0-flow-go-bp", "lite0", "go-bp", settings=settings)
    text = html.render("pages/report.html.j2", report.context(run, page_sections.build(run)))
    assert "k: 7" in text
    assert "someone" not in text


def test_files_by_encoder_are_shown_without_places() -> None:
    shown = run_facts.configuration({"features": {"weights": {"uni2": "/home/someone/a.bin"}}})
    assert yaml.safe_load(str(shown)) == {"features": {"weights": {"uni2": "a.bin"}}}


def test_pictures_keep_every_pixel_and_the_gallery_its_budget(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 45, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shown = html.picture(tmp_path / "a.png")
    assert (shown["width"], shown["height"]) == (30, 20)
    assert shown["uri"].startswith("data:image/webp;base64,")
    packed = io.BytesIO(base64.b64decode(shown["uri"].partition(",")[2]))
    with Image.open(packed) as back:
        assert (np.asarray(back.convert("RGB")) == pixels).all()
    run = load(folder)
    assert len(report.gallery(run, run_facts.thumbnails(run))) == 3
    monkeypatch.setattr(report, "GALLERY_BYTES", 1)
    assert [item["name"] for item in report.gallery(run, run_facts.thumbnails(run))] == ["P000-A"]
