"""A random sequence of changes of inputs, as `make soak` tries a hundred."""

from __future__ import annotations

import random
from pathlib import Path

from input_changes import Trials


def test_a_rerun_after_changes_equals_a_fresh_run(tmp_path: Path) -> None:
    trials = Trials(tmp_path, random.Random(122), ["own"])
    trials.sequence()
    print(f"changes: {dict(trials.done)}, wrong accepted: {len(trials.wrong)}")
    assert set(trials.done) == {"edit, time restored", "rename over", "copy project"}
    assert trials.wrong == []
