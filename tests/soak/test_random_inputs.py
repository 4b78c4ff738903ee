"""Random tables, names and barcodes by the thousand; the unit tests try a few of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import random_inputs
from hypothesis import HealthCheck, given, settings


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("strategy", "check", "number"),
    [
        (random_inputs.TABLES, random_inputs.check_table, 4000),
        (random_inputs.NAMES.map(lambda name: (name,)), random_inputs.check_name, 1000),
        (random_inputs.BARCODES, random_inputs.check_barcode, 500),
    ],
    ids=["tables", "names", "barcodes"],
)
def test_random_inputs(strategy: Any, check: Callable[..., str], number: int) -> None:
    counts: Counter[str] = Counter()

    @settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def run(values: tuple[Any, ...]) -> None:
        counts[check(*values)] += 1

    run()
    print(f"\n{check.__name__}: {random_inputs.summary(counts)}")
    assert len(counts) >= 2
