"""Sections: what is wrong is named with its remedy, and no test gene decides which spots stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from slide2rna.core.errors import SheetError
from slide2rna.spatial import section as sections
from slide2rna.spatial.section import Section

SIZE = (3000, 2000)
MASK = np.zeros((200, 300), dtype=bool)
MASK[40:160, 50:250] = True  # tissue at x 500 to 2500, y 400 to 1600
XY = np.stack(np.meshgrid(np.arange(550, 2500, 100), np.arange(450, 1600, 100)), -1).reshape(-1, 2)
GENES = [f"G{number}" for number in range(5)]


def made(**changes: object) -> Section:
    """A section of 240 spots on a rectangle of tissue."""
    count = len(XY)
    counts = sparse.csr_array(np.random.default_rng(1).poisson(3, (count, 5)) + 1)
    names = [f"s{number}" for number in range(count)]
    plain = Section(
        *("A1", "A", Path("A1.jpg"), GENES, counts, names, XY.astype(float), None), 200.0, 2.0
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_good_section_stays_as_it_is() -> None:
    found = sections.checked(made(), SIZE, MASK)
    assert found == replace(made(), dropped=[], counts=found.counts, pixel_xy=found.pixel_xy)
    assert (found.totals == made().totals).all()
    assert sections.mpp_of_pitch(found.pixel_xy, 200.0) == pytest.approx(2.0)
    assert found.xy_um[0].tolist() == [1100, 900]


def test_spots_without_counts_or_off_the_tissue_are_dropped_and_counted() -> None:
    counts = made().counts.toarray()
    counts[7] = 0
    xy = made().pixel_xy
    xy[3] = (20, 20)
    found = sections.checked(made(counts=sparse.csr_array(counts), pixel_xy=xy), SIZE, MASK)
    assert len(found.spot_ids) == len(XY) - 2
    assert {row["spot"]: row["reason"] for row in found.dropped} == {
        "s7": "no counts",
        "s3": "outside the tissue of the image",
    }


def test_the_genes_do_not_decide_which_spots_stay() -> None:
    """A spot whose panel genes are all 0 stays, as long as it has any count."""
    counts = made().counts.toarray()
    counts[9] = [0, 0, 0, 0, 1]
    found = sections.checked(made(counts=sparse.csr_array(counts)), SIZE, MASK)
    assert "s9" in found.spot_ids


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spot_ids": ["s0", *made().spot_ids[:-1]]}, ["spots occur twice", "s0"]),
        ({"genes": ["G1", *GENES[1:]]}, ["genes occur twice", "G1"]),
        ({"counts": made().counts * 0.5}, ["isn't a count", "raw counts"]),
        ({"counts": made().counts * -1}, ["isn't a count"]),
        ({"pixel_xy": XY * 3.4}, ["scale the positions by about 0.2"]),
        ({"pixel_xy": XY * np.nan}, ["no position"]),
        ({"pixel_xy": XY[:, ::-1] + [1200.0, 0]}, ["are on tissue"]),
    ],
)
def test_faults_are_named(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SheetError) as error:
        sections.checked(made(**changes), SIZE, MASK)
    assert str(error.value).startswith("A1: ")
    for word in words:
        assert word in str(error.value)


def test_swapped_axes_are_recognised() -> None:
    tall = MASK.T
    with pytest.raises(SheetError, match="swap x and y"):
        sections.checked(made(), SIZE[::-1], tall)


def test_a_factor_is_found_within_a_few_per_cent() -> None:
    with pytest.raises(SheetError) as error:
        sections.checked(made(pixel_xy=XY * 3.477), SIZE, MASK)
    factor = float(str(error.value).split("by about ")[1].split()[0])
    assert factor == pytest.approx(1 / 3.477, rel=0.05)


def test_too_few_spots() -> None:
    few = made().keep(np.arange(len(XY)) < 12, "test")
    with pytest.raises(SheetError, match="12 spots are left"):
        sections.checked(few, SIZE, MASK)


def test_genes_of_all_sections() -> None:
    other = made(name="B1", genes=["G9", *GENES[1:]])
    assert sections.check_names([made(), other]) == GENES[1:]
    ensembl = made(name="C1", genes=[f"ENSG{number:011d}" for number in range(5)])
    with pytest.raises(SheetError, match="Ensembl ids in C1 and symbols in A1"):
        sections.check_names([made(), ensembl])
    with pytest.raises(SheetError, match="no gene is in all sections"):
        sections.check_names([made(), made(name="B1", genes=[f"X{n}" for n in range(5)])])
