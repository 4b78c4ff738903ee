"""Fold models' verdicts on a slide, put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from slide2rna.studies.shift import decision
from slide2rna.studies.shift.reference import TrainingReference, p_value

ALPHA = 0.05


def law(cal: int, train: int = 100) -> TrainingReference:
    """Distances from 0 to 1 of these numbers of patients; other fields are empty."""
    nothing = np.zeros(1)
    far = np.linspace(0, 1, cal), np.linspace(0, 1, cal), np.linspace(0, 1, train)
    return TrainingReference(*([nothing] * 7), *far, {})


def verdict(of: TrainingReference, bag: float, expression: float | None = 0.5) -> dict[str, Any]:
    """As `TrainingReference.judge` gives it."""
    return {
        "n_cal": len(of.cal_bag),
        "n_train": len(of.train_bag),
        "train_distance": float(np.median(of.train_bag)) if len(of.train_bag) else None,
        "bag_distance": bag,
        "bag_p": p_value(bag, of.cal_bag),
        "bag_p_train": p_value(bag, of.train_bag),
        "expression_distance": expression,
        "expression_p": p_value(expression, of.cal_expression),
    }


def together(
    cal: int, bags: list[float], expression: float | None = 0.5, train: int = 100
) -> dict[str, Any]:
    of = law(cal, train)
    rows = [{"fold": fold} | verdict(of, bag, expression) for fold, bag in enumerate(bags)]
    return decision.decide(rows, ALPHA)


def test_p_values_are_combined_for_any_dependence() -> None:
    assert decision.combine_p([0.01, 0.02, 0.03]) == pytest.approx(0.04)
    assert decision.combine_p([0.9, 0.8]) == 1
    assert decision.combine_p([0.01, None]) is None
    assert decision.combine_p([]) is None


def test_calibration_patients_decide_where_they_can() -> None:
    near, far = together(99, [0.5] * 5), together(99, [1.5] * 5)
    assert (near["judged_by"], near["shifted"]) == ("cal", False)
    assert (far["judged_by"], far["shifted"]) == ("cal", True)
    assert far["bag_p"] == pytest.approx(2 / 100)
    assert far["bag_share"] == 1
    assert far["words"].startswith(decision.UNLIKE)
    assert "p = 0.02" in far["words"]
    assert decision.ADVICE in far["words"]
    assert near["words"].startswith(decision.ALIKE)


def test_one_fold_alone_does_not_decide() -> None:
    assert together(99, [1.5, 0.2, 0.2, 0.2, 0.2])["shifted"] is False


def test_a_strange_profile_is_enough() -> None:
    found = together(99, [0.5] * 3, expression=2.0)
    assert found["shifted"] is True
    parts = found["words"].partition("(")[0].removeprefix(decision.UNLIKE)
    assert "predicted profile" in parts
    assert "tiles" not in parts
    assert together(99, [0.5] * 3, expression=None)["shifted"] is False


@pytest.mark.parametrize("cal", [0, 3, 38])
def test_too_few_calibration_patients_leave_it_to_the_train_patients(cal: int) -> None:
    """With 38, the least combined p is 2/39 > 0.05; with 39 it is 0.05."""
    assert together(39, [1.5])["judged_by"] == "cal"
    far = together(cal, [1.5, 1.5, 0.2])
    assert (far["judged_by"], far["shifted"]) == ("train", True)
    assert far["bag_train_share"] == pytest.approx(2 / 3)
    assert f"{cal} calibration patients" in far["words"]
    assert "3.0 times" in together(cal, [1.5] * 3)["words"]
    assert together(cal, [1.5, 0.2, 0.2])["shifted"] is False


def test_too_few_patients_give_no_decision() -> None:
    few = together(3, [9.0] * 5, train=18)
    assert (few["judged_by"], few["shifted"]) == ("nothing", None)
    assert "3 calibration and 18 training patients" in few["words"]
    assert together(3, [9.0] * 5, train=19)["shifted"] is True
    unknown = decision.decide([], ALPHA)
    assert unknown["shifted"] is None
    assert unknown["bag_p"] is None
    assert unknown["words"] not in (few["words"], "")
