"""Attainable section: means by module, the limits beside them, and no section without a law."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from slide2rna.core.errors import StageError
from slide2rna.report.sections import attainable, run_tables
from written_reports import NAMES, folder, load, text_of

__all__ = ["folder"]  # the fixture

GENES = pl.DataFrame(
    {
        "gene": ["A", "B", "C", "D"],
        "r": [0.5, 0.3, None, 0.05],
        "r_ridge": [0.4, 0.2, 0.3, float("nan")],
        "r_abmil": [0.1, 0.1, 0.2, 0.0],
        "r_permuted": [0.0, 0.0, 0.0, 0.0],
    }
)
TRUTH = pl.DataFrame(
    {
        "gene": ["B", "A", "C", "E", "D"],
        "module": ["rare", "rare", "and", "and", "none"],
        "attainable": [0.6, 0.8, 0.5, 0.9, 0.0],
        "linear_limit": [0.3, 0.5, 0.5, 0.1, 0.0],
    }
)


def test_modules_are_means_of_their_evaluated_genes() -> None:
    found = attainable.attainable(GENES, TRUTH, "flow")
    assert found is not None
    assert (found["models"], found["missing"]) == (["flow", "ridge", "abmil"], 1)
    rare, both, nothing, total = found["rows"]
    assert (rare["module"], rare["genes"]) == ("rare", 2)
    assert rare["cells"] == pytest.approx([0.4, 0.3, 0.1])
    assert (rare["linear_limit"], rare["attainable"]) == pytest.approx((0.4, 0.7))
    assert rare["ratio"] == pytest.approx(0.4 / 0.7)
    assert (both["genes"], both["cells"][0], both["ratio"]) == (1, None, None)
    assert nothing["cells"] == [0.05, None, 0.0]
    assert nothing["ratio"] is None  # nothing can be attained
    assert (total["module"], total["genes"]) == ("all with a signal", 3)
    assert total["attainable"] == pytest.approx((0.6 + 0.8 + 0.5) / 3)


def test_a_reported_network_is_not_its_own_rival() -> None:
    genes = GENES.drop("r_abmil").with_columns(pl.col("r_ridge").alias("r_ridge-lowrank"))
    found = attainable.attainable(genes, TRUTH, "abmil")
    assert found is not None
    assert found["models"] == ["abmil", "ridge", "ridge-lowrank"]


def test_no_section_without_a_law_of_these_genes() -> None:
    assert attainable.attainable(GENES, None, "flow") is None
    others = TRUTH.with_columns(pl.col("gene") + "-other")
    assert attainable.attainable(GENES, others, "flow") is None


def test_the_page_says_first_that_the_data_are_simulated(folder: Path, tmp_path: Path) -> None:
    run = load(folder)
    genes = run.tables["genes"]
    truth = genes.select("gene", module=pl.lit("rare"), attainable=0.8, linear_limit=0.4)
    truth.write_parquet(tmp_path / "truth_genes.parquet")
    given = run_tables.load(folder, *NAMES, truth=tmp_path / "truth_genes.parquet")
    text = text_of(given)
    section = re.search(r'<section aria-labelledby="attainable">(.*?)</section>', text, re.DOTALL)
    assert section is not None
    assert re.search(r"</h2>\s*<p>These data are simulated", section[1])
    own = genes["r"].fill_nan(None).mean()
    assert f"<b>{own:.3f}</b>" in section[1]
    assert "<td>0.400</td><td>0.800</td>" in section[1]
    assert 'href="#attainable"' in text
    assert "simulated" not in text_of(run)
    with pytest.raises(StageError, match=r"truth_genes\.parquet: .*generate"):
        run_tables.load(folder, *NAMES, truth=tmp_path / "no" / "truth_genes.parquet")
