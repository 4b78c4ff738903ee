"""Progress in a log file."""

from __future__ import annotations

import logging

import pytest
from slide2rna.core.log import LineBar


def test_the_bar_of_a_library_is_lines_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="slide2rna")
    with LineBar(total=2_000_000, desc="model.safetensors", unit="B", unit_scale=True) as bar:
        bar.update(2_000_000)
    assert [record.getMessage() for record in caplog.records][-1].startswith(
        "model.safetensors: 2.00M of 2.00M, "
    )
    assert "\r" not in caplog.text
