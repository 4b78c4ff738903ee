"""100 random sequences of changes of inputs: each rerun gives the tables of a fresh run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from input_changes import CHANGES, Trials

SEQUENCES = 100


@pytest.mark.timeout(36000)
def test_a_rerun_after_any_change_equals_a_fresh_run(tmp_path: Path) -> None:
    trials = Trials(tmp_path, random.Random(20261130))
    for _ in range(SEQUENCES):
        trials.sequence()
    print(f"{SEQUENCES} sequences, changes: {dict(trials.done)}")
    print(f"wrong accepted: {len(trials.wrong)}")
    assert set(trials.done) == set(CHANGES)
    assert trials.wrong == []
