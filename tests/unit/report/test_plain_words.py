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
    assert line.startswith(f"Predictions show {word} agreement with measurements (mean")
    assert "95 % interval 0.06 to 1.00" in line
    assert line.endswith("3 of 4 genes (75 %) follow them beyond chance.")


def test_what_does_not_clear_chance_is_said_to_be_chance() -> None:
    line = said(summary((0.3, 0.05, 0.5), floor=0.05))[1]
    assert line.startswith("Predictions agree with measurements no better than chance allows")
    assert "beyond chance" not in line
    assert "shuffled patients reach 0.05" in line


def test_single_genes_are_not_counted_where_there_are_too_few_patients() -> None:
    few = said(summary((0.3, 0.1, 0.5), note="too few for per-gene claims (8 in the smallest)"))
    assert "genes (" not in few[1]
    untested = pl.DataFrame({"fdr": [None] * 4}, schema={"fdr": pl.Float64})
    assert "genes (" not in said(summary((0.3, 0.1, 0.5)), found=untested)[1]


def test_a_model_that_does_not_beat_the_nulls_is_said_to_have_learned_nothing() -> None:
    table = summary((0.3, 0.2, 0.4), pcc_site_mean=0.1, pcc_color_ridge=0.0, pcc_permuted=-0.1)
    line = said(table)[2]
    assert "less well than a model trained on shuffled patients" in line
    assert "not clearly better at following the measurements than the slide's colour alone" in line
    assert "hospital" not in line
    assert "nothing here shows that the model has learned from it" in line


def test_a_model_that_beats_them_all_is_said_to_and_its_error_is_not_forgotten() -> None:
    wins = {"pcc_site_mean": 0.1, "pcc_color_ridge": 0.1, "pcc_permuted": 0.1}
    line = said(summary((0.3, 0.2, 0.4), **wins, rmse_constant=-0.1))[2]
    assert line.startswith("It follows the measurements better than what doesn't look")
    assert line.count("the slide's colour alone") == 1
    assert "error" not in line
    unsure = said(summary((0.3, 0.2, 0.4), **wins, rmse_constant=-0.01))[2]
    assert unsure.endswith("not clearly smaller than that of one average profile for everybody.")
    worse = said(summary((0.3, 0.2, 0.4), **wins, rmse_constant=0.1))[2]
    assert "Its error is larger than" in worse


@pytest.mark.parametrize(
    ("covered", "start"),
    [
        (0.84, "It is surer than it should be"),
        (0.86, "Its stated uncertainty can be believed"),
        (0.94, "Its stated uncertainty can be believed"),
        (0.96, "It is less sure than it could be"),
    ],
)
def test_uncertainty_is_believed_within_five_points(covered: float, start: str) -> None:
    line = said(summary((0.3, 0.2, 0.4)), coverage(covered))[-2]
    assert line.startswith(start)
    assert f"{100 * covered:.1f} %" in line


def test_losing_to_the_train_profiles_as_a_distribution_is_said() -> None:
    loses = "As a distribution it does worse than the training patients' own profiles"
    for gap, there in ((0.05, True), (0.0, False), (-0.05, False)):
        line = said(summary((0.3, 0.2, 0.4), crps_constant=gap))[-2]
        assert line.startswith("Its stated uncertainty can be believed")
        assert (loses in line) == there


def test_no_uncertainty_is_claimed_for_guided_draws_or_for_a_point_model() -> None:
    guided = said(summary((0.3, 0.2, 0.4), note=f"guidance 2: {UNCLAIMED}"))[-2]
    assert guided.startswith("Its stated uncertainty should not be relied on: the draws are guided")
    point = said(summary((0.3, 0.2, 0.4)), coverage(0.9).clear())[-2]
    assert point == "The model gives single values and says nothing about how sure it is."


def test_other_units_than_patients_and_small_cohorts_are_said() -> None:
    lines = said(summary((0.3, 0.2, 0.4)), cohort={"split_unit": "section", "n_sites": 0})
    assert "though it had seen others of the same patient" in lines[0]
    assert lines[-1].endswith("With 40 patients every number is rough.")
    made = said(summary((0.3, 0.2, 0.4)), cohort=COHORT | {"source": "demo"})
    assert made[-1].startswith("This cohort was made by a computer")
    assert "never seen that patient" in said(summary((0.3, 0.2, 0.4)))[0]
    assert said(pl.DataFrame(schema=summary((0, 0, 0)).schema))[1].startswith("There are too few")
