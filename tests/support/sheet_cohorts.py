"""Sample sheets with an expression table, and what freezing them needs and leaves."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from slide2rna.core import config

FOLDS = config.defaults("folds")
FILES = (
    *("slides.parquet", "expression.parquet", "gene_names.parquet"),
    *("splits.tsv", "splits.tsv.sha256", "cohort.json"),
)


def make_sheet(folder: Path, patients: int = 12, extra: dict[str, list[str]] | None = None) -> Path:
    """A sheet with a slide per patient and a second one of P00, beside its expression table."""
    folder.mkdir(exist_ok=True)
    names = [f"P{i:02d}" for i in range(patients)] + ["P00"]
    rows = {
        "slide_id": [f"S{i:02d}" for i in range(len(names))],
        "patient_id": names,
        "slide": [f"s{i}.svs" for i in range(len(names))],
        "site": ["a" if i % 3 else "b" for i in range(len(names))],
    } | (extra or {})
    for name in rows["slide"]:
        (folder / name).write_text(name)
    pl.DataFrame(rows).write_csv(folder / "sheet.tsv", separator="\t")
    rng = np.random.default_rng(1)
    genes = {gene: rng.uniform(0, 12, patients + 1) for gene in ("TP53", "A1BG", "ESR1")}
    table = pl.DataFrame({"sample_id": [*dict.fromkeys(names), "unused"]} | genes)
    table.write_parquet(folder / "rna.parquet")
    return folder


def source_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """The source's section of the configuration, for a sheet of `make_sheet`."""
    paths = {"sheet": str(folder / "sheet.tsv"), "expression": str(folder / "rna.parquet")}
    return {"source": "sheet"} | paths | changes


def load_command(repo: Path) -> Callable[..., None]:
    """`main` of scripts/cohort.py."""
    return runpy.run_path(str(repo / "scripts" / "cohort.py"))["main"]
