"""Names from outside that become paths."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from slide2rna.core.errors import SlideError
from slide2rna.core.files import is_plain_name
from slide2rna.predict import encode_slide

BAD = [
    "",
    " ",
    ".",
    "..",
    "a/b",
    "../victim",
    "/abs",
    "a\\b",
    "a\0b",
    "a\x1bb",
    "a\u202eb",
    "x" * 241,
]


@pytest.mark.parametrize("name", BAD)
def test_names_that_lead_elsewhere(name: str) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", ["a", "sl #1 & <b>x %41 'q' \"d\" ü {x}", "..a", "S-1.2", "名"])
def test_names_of_files(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize("name", ["../victim", "/tmp/victim", "..", "a\u202eb"])
def test_a_features_file_cannot_name_another_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = np.ones((2, 4)), np.zeros((2, 2))
        file.attrs["slide"] = name
    with pytest.raises(SlideError) as caught:
        encode_slide.slide_name(path)
    assert str(caught.value).isprintable()


def test_a_file_of_dots_is_no_slide(tmp_path: Path) -> None:
    with pytest.raises(SlideError):
        encode_slide.slide_name(tmp_path / "...h5")
