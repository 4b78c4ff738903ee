"""A report of a small cohort whose law is known, and one with everything that can be shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import contract_tables
import evaluated
import pytest
import synthetic_cohort
from slide2rna.pages import html
from slide2rna.report import report
from slide2rna.report.figures import overview, style
from slide2rna.report.sections import page_sections, run_tables

CAVEAT = "within one patient, adjacent sections: no claim about patients"
NAMES = (synthetic_cohort.RUN, synthetic_cohort.ENCODER, synthetic_cohort.SET)


def make(folder: Path, **settings: object) -> synthetic_cohort.Synthetic:
    small = {"patients": 45, "genes": 80, "draws": 25}
    made = synthetic_cohort.make(folder, **(small | settings))  # type: ignore[arg-type]
    out = folder / "evaluation" / synthetic_cohort.RUN
    evaluated.run(made, out, bootstrap=50, permutations=20)
    return made


def load(folder: Path, *extras: str, folds: int | None = None) -> run_tables.RunTables:
    return run_tables.load(folder, *NAMES, extras, folds)


# Made once for all modules: nobody writes to it, who must copies it.
MADE: dict[str, Path] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "folder" not in MADE:
        folder = tmp_path_factory.mktemp("cohort")
        made = make(folder, caveat=CAVEAT, failed=2)
        synthetic_cohort.add_pictures(made, 3)
        report.write(load(folder), folder / "report")
        MADE["folder"] = folder
    return MADE["folder"]


@pytest.fixture(scope="module")
def full(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with everything that a report can show."""
    if "full" not in MADE:
        copy = tmp_path_factory.mktemp("full") / "cohort"
        shutil.copytree(folder, copy)
        contract_tables.add(copy, synthetic_cohort.RUN)
        style.save(
            overview.pcc_histogram(load(copy).tables["genes"]), copy / "leak_audit", "leak_audit"
        )
        report.write(load(copy, *run_tables.STAGES), copy / "report")
        MADE["full"] = copy
    return MADE["full"]


def text_of(run: run_tables.RunTables) -> str:
    """The page without its figures, which take most of the time."""
    return html.render(
        "pages/report.html.j2", report.context(run, page_sections.build(run)) | {"figure": {}}
    )
