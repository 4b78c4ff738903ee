"""The plain sentences: each rule at both sides of its threshold, and no claim beyond the tables."""

from __future__ import annotations

import polars as pl
import pytest
from slide2rna.evaluation.scoring.summary import UNCLAIMED
from slide2rna.report.sections import plain_words

COUNTS = {"slides": 47, "patients": 40, "genes": 4}
COHORT = {"split_unit": "patient", "n_sites": 2}


def summary(
    pcc: tuple[float, float, float], floor: float = 0.05, note: str = "", **differences: float
) -> pl.DataFrame:
    """Rows of one model; a difference has an interval of 0.02 on either side."""

    def row(metric: str, value: float, low: float, high: float, model: str = "flow") -> dict:
        ends = {"value": value, "low": low, "high": high}
        return {"model": model, "gene_set": "all", "metric": metric, "note": note} | ends

    rows = [row("pcc", *pcc), row("pcc_floor", 0.0, -floor, floor)]
    for key, value in differences.items():
        metric, _, other = key.partition("_")
        name = f"{metric}_minus:{other.replace('_', '-')}"
        rows.append(row(name, value, value - 0.02, value + 0.02))
    return pl.DataFrame(rows)


def genes(found: int = 3) -> pl.DataFrame:
    return pl.DataFrame({"fdr": [0.01] * found + [0.5] * (4 - found)})


def coverage(covered: float) -> pl.DataFrame:
    keys = {"gene_set": "all", "quantity": "coverage", "within": "pooled", "kind": "draws"}
    return pl.DataFrame([keys | {"nominal": 0.9, "covered": covered}])


def said(
    table: pl.DataFrame,
    calibration: pl.DataFrame | None = None,
    cohort: dict | None = None,
    found: pl.DataFrame | None = None,
) -> list[str]:
    drawn = coverage(0.9) if calibration is None else calibration
    return plain_words.sentences(
        table, genes() if found is None else found, drawn, cohort or COHORT, COUNTS, "flow"
    )


@pytest.mark.parametrize(
    ("value", "word"),
    [(0.099, "hardly any"), (0.1, "weak"), (0.31, "moderate"), (0.5, "strong"), (1.0, "strong")],
)
def test_the_word_for_agreement_follows_the_mean_correlation(value: float, word: str) -> None:
    line = said(summary((value, 0.06, 1.0)))[1]
    assert f" {word} agreement" in line
    for fact in (f"{value:.2f}", "0.06 to 1.00", "3 of 4 genes (75 %)"):
        assert fact in line


def test_a_score_within_the_noise_floor_is_called_chance() -> None:
    line = said(summary((0.3, 0.05, 0.5), floor=0.05))[1]
    assert "no better than chance" in line
    assert "genes (" not in line
    assert "0.05)" in line


def test_single_genes_are_not_counted_where_there_are_too_few_patients() -> None:
    few = said(summary((0.3, 0.1, 0.5), note="too few for per-gene claims (8 in the smallest)"))
    assert "genes (" not in few[1]
    untested = pl.DataFrame({"fdr": [None] * 4}, schema={"fdr": pl.Float64})
    assert "genes (" not in said(summary((0.3, 0.1, 0.5)), found=untested)[1]


def test_a_model_that_does_not_beat_the_nulls_has_learned_nothing() -> None:
    table = summary((0.3, 0.2, 0.4), pcc_site_mean=0.1, pcc_color_ridge=0.0, pcc_permuted=-0.1)
    line = said(table)[2]
    losses, unclear = line.split(". ")[:2]
    assert plain_words.PLAIN["permuted"] in losses
    assert plain_words.PLAIN["color-ridge"] in unclear
    assert plain_words.PLAIN["site-mean"] not in line
    assert "learned" in line


def test_a_model_that_beats_all_nulls_is_also_judged_by_its_error() -> None:
    wins = {"pcc_site_mean": 0.1, "pcc_color_ridge": 0.1, "pcc_permuted": 0.1}
    line = said(summary((0.3, 0.2, 0.4), **wins, rmse_constant=-0.1))[2]
    assert all(line.count(words) == 1 for words in plain_words.PLAIN.values())
    assert "learned" not in line
    assert "error" not in line
    unsure = said(summary((0.3, 0.2, 0.4), **wins, rmse_constant=-0.01))[2]
    assert "error is not clearly smaller than" in unsure
    worse = said(summary((0.3, 0.2, 0.4), **wins, rmse_constant=0.1))[2]
    assert "error is larger than" in worse


@pytest.mark.parametrize(
    ("covered", "word"),
    [(0.84, "narrow"), (0.86, "believed"), (0.94, "believed"), (0.96, "wide")],
)
def test_uncertainty_is_believed_within_five_points(covered: float, word: str) -> None:
    line = said(summary((0.3, 0.2, 0.4)), coverage(covered))[-2]
    assert [w for w in ("narrow", "believed", "wide") if w in line] == [word]
    assert f"{100 * covered:.1f} %" in line


def test_losing_to_the_train_profiles_as_a_distribution_is_said() -> None:
    for gap, there in ((0.05, True), (0.0, False), (-0.05, False)):
        line = said(summary((0.3, 0.2, 0.4), crps_constant=gap))[-2]
        assert "believed" in line
        assert ("distribution" in line) == there


def test_no_uncertainty_is_claimed_for_guided_draws_or_for_a_point_model() -> None:
    guided = said(summary((0.3, 0.2, 0.4), note=f"guidance 2: {UNCLAIMED}"))[-2]
    assert "guided" in guided
    assert "believed" not in guided
    point = said(summary((0.3, 0.2, 0.4)), coverage(0.9).clear())[-2]
    assert "single values" in point


def test_other_units_than_patients_and_small_cohorts_are_said() -> None:
    lines = said(summary((0.3, 0.2, 0.4)), cohort={"split_unit": "section", "n_sites": 0})
    assert "same patient" in lines[0]
    assert "40 patients" in lines[-1]
    made = said(summary((0.3, 0.2, 0.4)), cohort=COHORT | {"source": "demo"})
    assert "simulated" in made[-1]
    assert "same patient" not in said(summary((0.3, 0.2, 0.4)))[0]
    assert "too few" in said(pl.DataFrame(schema=summary((0, 0, 0)).schema))[1]
