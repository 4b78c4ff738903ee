"""Provided vectors of whole slides: the encoder that a table or a file names."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from slide2rna.core.errors import StageError
from slide2rna.features import feature_file, provided
from slide_factory import shard


def checked(source: Path, folder: Path) -> list[str | None]:
    """The encoders that the files of a cohort's slides A and B then name."""
    slides = shard(folder / "s.parquet", {"A": None, "B": None})
    out = folder / "out"
    provided.check_provided_features(slides, source, out, out / "shard-0.parquet", "slide")
    return [feature_file.read_attributes(out / f"{name}.h5").get("made_by") for name in "AB"]


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        (["TITAN", "titan"], ["titan", "titan"]),
        (["gigapath", "gigapath_slide"], ["gigapath-slide", "gigapath-slide"]),
        ([None, "prism"], [None, "prism"]),
    ],
)
def test_a_table_names_its_encoder(
    tmp_path: Path, stated: list[str | None], found: list[str | None]
) -> None:
    table = pl.DataFrame({"slide_id": ["A", "B"], "encoder": stated, "f1": [1.0, 2], "f2": [3, 4]})
    table.write_csv(tmp_path / "table.csv")
    assert checked(tmp_path / "table.csv", tmp_path) == found


def test_a_table_of_two_encoders_is_refused(tmp_path: Path) -> None:
    table = {"slide_id": ["A", "B"], "encoder": ["titan", "prism"], "f": [1.0, 2]}
    pl.DataFrame(table).write_parquet(tmp_path / "table.parquet")
    with pytest.raises(StageError, match=r"B is of prism, A is of titan"):
        checked(tmp_path / "table.parquet", tmp_path)


def test_files_of_slide_encoders_have_their_names(tmp_path: Path) -> None:
    source = tmp_path / "own"
    source.mkdir()
    for slide in "AB":
        with h5py.File(source / f"{slide}.h5", "w") as file:
            file["feats"] = np.arange(4.0)
            file.attrs["feat_type"], file.attrs["encoder"] = "slide", "gigapath"
    assert checked(source, tmp_path) == ["gigapath-slide"] * 2


@pytest.mark.parametrize(("dim", "warned"), [(1280, True), (2560, False)])
def test_vectors_by_another_rule_are_a_warning(
    tmp_path: Path, dim: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """STAMP's virchow is the class token alone, TRIDENT's has the mean of the patches, too."""
    source = tmp_path / "own"
    source.mkdir()
    for slide in "AB":
        with h5py.File(source / f"{slide}.h5", "w") as file:
            file["features"], file["coords"] = np.ones((2, dim)), np.arange(4).reshape(2, 2)
            file.attrs["encoder"] = "virchow"
    slides = shard(tmp_path / "s.parquet", {"A": None, "B": None})
    out = tmp_path / "out"
    provided.check_provided_features(slides, source, out, out / "shard-0.parquet")
    assert ("virchow have 1280 numbers, and 2560 by" in caplog.text) == warned
