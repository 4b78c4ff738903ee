"""Identity of slides: a copy, another name or more bytes make no other slide."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from slide2rna.cohort import leak_guard
from slide2rna.core.errors import LeakError, SlideError, StageError
from slide2rna.slides import identity
from slide_factory import picture, write_slide

PARTS = ("train", "test")


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("s") / "a.svs", picture(512, 512))


def test_quickhash_is_of_the_slide_and_not_of_the_file(slide: Path, tmp_path: Path) -> None:
    longer = tmp_path / "b.svs"
    longer.write_bytes(slide.read_bytes() + b"\0")
    other = write_slide(tmp_path / "c.svs", picture(512, 512, seed=1))
    found = identity.quickhash(slide)
    assert found is not None
    assert identity.quickhash(longer) == found
    assert identity.quickhash(other) not in (None, found)
    (tmp_path / "d.svs").write_text("no slide")
    assert identity.quickhash(tmp_path / "d.svs") is None


def test_folders_that_are_no_dicom_slide_are_refused(slide: Path, tmp_path: Path) -> None:
    assert identity.slide_file(slide) == slide
    with pytest.raises(SlideError, match="folder"):
        identity.slide_file(tmp_path)
    (tmp_path / "a.dcm").write_text("no DICOM")
    with pytest.raises(SlideError, match="OpenSlide"):
        identity.slide_file(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(SlideError, match="folder"):
        identity.slide_file(tmp_path)


def table(patients: tuple[str, str], quickhash: tuple[str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "slide_id": ["A", "B"],
            "patient_id": patients,
            "unit": patients,
            "path": ["a.svs", "b.svs"],
            "md5": ["1", "2"],
            "quickhash": quickhash,
        },
        schema_overrides={"quickhash": pl.String},
    )


def split(units: tuple[str, str], parts: tuple[str, str] = PARTS) -> pl.DataFrame:
    return pl.DataFrame({"unit": units, "fold": [0, 0], "part": parts})


@pytest.mark.parametrize(
    ("patients", "quickhash", "leaks"),
    [
        (("P1", "P2"), ("same", "same"), True),
        (("P1", "P2"), ("one", "two"), False),
        (("P1", "P2"), (None, None), False),
        (("TCGA-A2-A000-01A", "TCGA-A2-A000-01B"), ("one", "two"), True),
        (("tcga.a2.a000", "TCGA-A2-A000"), ("one", "two"), True),
        (("TCGA-A2-A000", "TCGA-A2-A001"), ("one", "two"), False),
    ],
)
def test_one_slide_or_patient_under_two_names(
    patients: tuple[str, str], quickhash: tuple[str | None, str | None], leaks: bool
) -> None:
    slides = table(patients, quickhash)
    if not leaks:
        assert leak_guard.check_split(slides, split(patients))["ok"]
        return
    with pytest.raises(LeakError) as caught:
        leak_guard.check_split(slides, split(patients))
    assert "A of" in caught.value.cause
    assert "B of" in caught.value.cause
    assert leak_guard.check_split(slides, split(patients, ("train", "train")))["ok"]


def test_parts_that_do_not_exist_are_refused() -> None:
    patients = ("P1", "P2")
    with pytest.raises(StageError, match="tset"):
        leak_guard.check_split(table(patients, (None, None)), split(patients, ("train", "tset")))
