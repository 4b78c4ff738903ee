"""A few random tables, names and barcodes; the soak tests try thousands."""

from __future__ import annotations

from typing import Any

import pytest
import random_inputs
from hypothesis import example, given, settings

FEW = settings(max_examples=25, deadline=None)


@FEW
@given(random_inputs.TABLES)
@example(([["a", '"b'], ["c", "d"]], ",", "\r"))
@example(([["a", "b", "c"], ["", ""]], ";", "\r\n"))
def test_every_row_is_read_or_named(values: tuple[Any, ...]) -> None:
    random_inputs.check_table(*values)


@FEW
@given(random_inputs.NAMES)
@example("../victim")
@example("/abs")
@example("..")
@example("a\u202eb")
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    random_inputs.check_name(name)


@FEW
@given(random_inputs.BARCODES)
def test_a_barcode_gives_its_patient(values: tuple[Any, ...]) -> None:
    random_inputs.check_barcode(*values)


def test_a_lost_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check fails for a reader that drops a row."""
    read = random_inputs.delimited.read_table
    monkeypatch.setattr(random_inputs.delimited, "read_table", lambda path: read(path).head(1))
    with pytest.raises(AssertionError):
        random_inputs.check_table([["a", "b"], ["c", "d"]], ",", "\n")
