"""Rows of a fold: the parts of its units, in order, without slides that have no bag."""

from __future__ import annotations

import flow_cohort
import pytest
from slide2rna.core.errors import StageError
from slide2rna.data import fold_rows
from training_cohort import cohort

__all__ = ["cohort"]  # the fixture


def test_rows_follow_units_and_leave_out_slides_without_bag(
    cohort: flow_cohort.FlowCohort,
) -> None:
    bag_ids = ["P001-0", "P000-1", "P023-0"]
    rows = fold_rows.read_fold_rows(bag_ids, cohort.inputs.slides, cohort.inputs.splits, 0)
    assert rows.slide_ids == ["P000-1", "P001-0", "P023-0"]
    assert rows.parts == ["train", "train", "test"]
    assert rows.bag.tolist() == [1, 0, 2]
    assert rows.of("test", "val").sample_ids == ["P023"]
    with pytest.raises(StageError, match="no fold 3"):
        fold_rows.read_fold_rows(bag_ids, cohort.inputs.slides, cohort.inputs.splits, 3)
    with pytest.raises(StageError, match="sample 'nobody' has no row"):
        fold_rows.read_expression_matrix(cohort.inputs.expression, ["P001", "nobody"])
