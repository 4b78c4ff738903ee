"""Slides meet the expression of their own tumour, and whatever leaves says why."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from slide2rna.cohort import gdc, manifest, pairing
from slide2rna.cohort.pairing import pair
from slide2rna.transfer import client

SEED = 3


def slide(name: str, **changes: Any) -> dict[str, Any]:
    """A TCGA slide by its barcode."""
    row = dict.fromkeys(gdc.SCHEMA) | {
        "kind": "slide",
        "uuid": f"u-{name}",
        "name": f"{name}.svs",
        "md5": f"{abs(hash(name)):032x}"[:32],
        "size": 10,
        "patient_id": name[:12],
        "specimen": name[:16],
        "sample_type": name[13:15],
        "medium": "Diagnostic Slide" if "-DX" in name else "Tissue Slide",
    }
    return row | changes


def star(aliquot: str, uuid: str = "", **changes: Any) -> dict[str, Any]:
    row = dict.fromkeys(gdc.SCHEMA) | {
        "kind": "expression",
        "uuid": uuid or f"u-{aliquot}",
        "name": f"{aliquot}.tsv",
        "md5": "0" * 32,
        "size": 10,
        "patient_id": aliquot[:12],
        "specimen": aliquot[:16],
        "sample_type": aliquot[13:15],
        "aliquot": aliquot,
    }
    return row | changes


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=gdc.SCHEMA, orient="row")


def paired(
    slides: list[dict[str, Any]], stars: list[dict[str, Any]], **options: Any
) -> dict[str, dict[str, Any]]:
    """Rows by name, from input in a random order."""
    rng = random.Random(SEED)
    given = [rng.sample(rows, len(rows)) for rows in (slides, stars)]
    options = {"patients": []} | options
    result = pair(table(given[0]), table(given[1]), **options)
    assert dict(result.schema) == pairing.SCHEMA
    assert result["reason"].is_null().equals(result["left_at"].is_null())
    return {row["name"] or row["patient_id"]: row for row in result.rows(named=True)}


P = "TCGA-05-4244"


def test_a_tumour_pairs_with_a_tumour() -> None:
    rows = paired([slide(f"{P}-01Z-00-DX1")], [star(f"{P}-01A-01R-0946-07")])
    kept = rows[f"{P}-01Z-00-DX1.svs"]
    assert kept["reason"] is None
    assert kept["sample_id"] == f"{P}-01A"
    assert kept["slide_id"] == f"{P}-01Z-00-DX1"
    assert kept["site"] == "05"
    assert rows[f"{P}-01A-01R-0946-07.tsv"]["reason"] is None


def test_a_tumour_never_pairs_with_a_normal() -> None:
    rows = paired([slide(f"{P}-01Z-00-DX1")], [star(f"{P}-11A-01R-0946-07")])
    assert "no expression of sample type 01" in rows[f"{P}-01Z-00-DX1.svs"]["reason"]
    assert rows[f"{P}-11A-01R-0946-07.tsv"]["reason"] == "normal tissue, sample type 11"
    # Not even if a normal's code is asked for, which the schema forbids.
    rows = paired(
        [slide(f"{P}-11A-01-TS1")],
        [star(f"{P}-11A-01R-0946-07")],
        kind="all",
        sample_types=("01", "11"),
    )
    assert all(row["reason"].startswith("normal tissue") for row in rows.values())


def test_a_metastasis_only_if_asked_for() -> None:
    slides = [slide(f"{P}-06Z-00-DX1"), slide(f"{P}-01Z-00-DX1")]
    stars = [star(f"{P}-06A-01R-0946-07")]
    rows = paired(slides, stars)
    assert all(row["reason"] for row in rows.values())
    assert rows[f"{P}-06Z-00-DX1.svs"]["reason"] == "sample type 06 was not asked for"
    rows = paired(slides, stars, sample_types=("01", "06"))
    assert rows[f"{P}-06Z-00-DX1.svs"]["sample_id"] == f"{P}-06A"
    assert "no expression of sample type 01" in rows[f"{P}-01Z-00-DX1.svs"]["reason"]


@pytest.mark.parametrize(
    ("aliquots", "taken"),
    [
        (["01A-11R-0946-07", "01B-99R-9999-07"], "01A-11R-0946-07"),
        (["01A-11R-0946-07", "01A-12R-0100-07"], "01A-12R-0100-07"),
        (["01A-11R-0946-07", "01A-11R-A089-07"], "01A-11R-A089-07"),
        (["01A-11R-0946-07", "01A-21T-A089-07"], "01A-11R-0946-07"),
        (["01A-11R-0946-07", "01A-11H-0100-07"], "01A-11H-0100-07"),
        (["01A-11R-0946-07", "11A-01R-0946-07", "02A-01R-0946-07"], "01A-11R-0946-07"),
    ],
)
def test_one_aliquot_is_taken(aliquots: list[str], taken: str) -> None:
    rows = paired([slide(f"{P}-01Z-00-DX1")], [star(f"{P}-{a}") for a in aliquots])
    kept = [a for a in aliquots if rows[f"{P}-{a}.tsv"]["reason"] is None]
    assert kept == [taken]
    for other in aliquots:
        if other != taken and other.startswith("01"):
            reason = rows[f"{P}-{other}.tsv"]["reason"]
            assert reason == f"another file was taken: {P}-{taken}"


def test_two_files_of_one_aliquot() -> None:
    name = f"{P}-01A-11R-0946-07"
    stars = [star(name, "b", name="b"), star(name, "a", name="a")]
    rows = paired([slide(f"{P}-01Z-00-DX1")], stars)
    assert rows["a"]["reason"] is None
    assert rows["b"]["reason"] == f"another file was taken: {name}"


def test_several_slides_are_kept_and_marked() -> None:
    other = "TCGA-44-0001"
    slides = [slide(f"{P}-01Z-00-DX{i}") for i in (1, 2, 3)]
    slides += [slide(f"{P}-01A-01-TS1"), slide(f"{other}-01Z-00-DX1")]
    rows = paired(slides, [star(f"{P}-01A-01R-0946-07"), star(f"{other}-01A-01R-0946-07")])
    kept = [row for row in rows.values() if row["kind"] == "slide" and not row["reason"]]
    assert sorted(row["slides_of_patient"] for row in kept) == [1, 3, 3, 3]
    frozen = rows[f"{P}-01A-01-TS1.svs"]
    assert frozen["reason"] == "no diagnostic slide: Tissue Slide"
    assert frozen["slides_of_patient"] is None
    every = paired(slides, [star(f"{P}-01A-01R-0946-07")], kind="all")
    assert every[f"{P}-01A-01-TS1.svs"]["slides_of_patient"] == 4


def test_other_reasons_for_leaving_slides_out() -> None:
    first = slide(f"{P}-01Z-00-DX1")
    slides = [
        first,
        slide(f"{P}-01Z-00-DX2", md5=first["md5"]),
        slide("TCGA-05-0001-01Z-00-DX1", patient_id="TCGA-05-0001;TCGA-05-0002"),
        slide("TCGA-05-0003-01Z-00-DX1", patient_id=None),
        slide("TCGA-05-0004-01Z-00-DX1", sample_type=None),
        slide("TCGA-05-0005-01Z-00-DX1", sample_type="01;11"),
    ]
    rows = paired(slides, [star(f"{P}-01A-01R-0946-07"), star("TCGA-05-0006-01A-01R-0946-07")])
    reasons = [rows[s["name"]]["reason"] for s in slides]
    assert reasons == [
        None,
        "the same file is there under another name",
        "not of exactly one patient",
        "not of exactly one patient",
        "sample type unknown",
        "several sample types: 01;11",
    ]
    lonely = rows["TCGA-05-0006-01A-01R-0946-07.tsv"]["reason"]
    assert lonely == "the patient has no slide of sample type 01"


def test_a_copy_replaces_a_slide_that_left() -> None:
    first = slide(f"{P}-01Z-00-DX1", medium="Tissue Slide")
    second = slide(f"{P}-01Z-00-DX2", md5=first["md5"])
    rows = paired([first, second], [star(f"{P}-01A-01R-0946-07")])
    assert rows[second["name"]]["reason"] is None


def test_patients_without_files_are_named() -> None:
    names = [P, "TCGA-05-0007", "TCGA-05-0008", "TCGA-05-0009"]
    rows = paired(
        [slide(f"{P}-01Z-00-DX1"), slide(f"{names[1]}-01Z-00-DX1")],
        [star(f"{P}-01A-01R-0946-07"), star(f"{names[2]}-01A-01R-0946-07")],
        patients=names,
    )
    assert P not in rows
    assert rows[names[1]]["reason"] == "the project has no expression of this patient"
    assert rows[names[2]]["reason"] == "the project has no slide of this patient"
    assert rows[names[3]]["reason"].startswith("the project has neither")
    assert {rows[name]["kind"] for name in names[1:]} == {"patient"}


def test_cptac_by_specimen_type_and_medium() -> None:
    def cptac(i: int, code: str | None, medium: str | None) -> dict[str, Any]:
        changes = {"patient_id": f"C3L-{i}", "sample_type": code, "medium": medium}
        return slide(f"C3L-{i}-21", specimen=f"C3L-{i}-02", md5=None, size=None, **changes)

    slides = [cptac(1, "01", "FFPE"), cptac(2, "01", "OCT"), cptac(3, "11", "FFPE")]
    slides += [cptac(4, "01", None), cptac(5, "01", "FFPE")]
    stars = [
        star(f"CPT-{i}", patient_id=f"C3L-{i}", specimen=f"C3L-{i}-01", sample_type="01")
        for i in range(1, 6)
    ]
    rows = paired(slides, stars)
    assert rows["C3L-1-21.svs"]["sample_id"] == "C3L-1-01"
    assert rows["C3L-5-21.svs"]["reason"] is None  # without md5 no two files are the same
    assert rows["C3L-2-21.svs"]["reason"] == "no diagnostic slide: OCT"
    assert rows["C3L-3-21.svs"]["reason"] == "normal tissue, sample type 11"
    assert rows["C3L-4-21.svs"]["reason"] == "no diagnostic slide: of unknown medium"
    assert rows["C3L-1-21.svs"]["site"] is None


def test_counts_add_up() -> None:
    slides = [slide(f"TCGA-05-{i:04d}-01Z-00-DX1") for i in range(6)]
    slides += [slide("TCGA-05-0000-01A-01-TS1"), slide("TCGA-05-0001-11Z-00-DX1")]
    stars = [star(f"TCGA-05-{i:04d}-01A-01R-0946-07") for i in range(4)]
    stars += [star("TCGA-05-0000-11A-01R-0946-07")]
    result = pair(table(slides), table(stars), ["TCGA-05-0099"])
    assert pairing.flow(result) == [
        {"step": "listed", "slides": 8, "patients": 6},
        {"step": "of the kind asked for", "slides": 7, "patients": 6},
        {"step": "of the tumour asked for", "slides": 6, "patients": 6},
        {"step": "paired with expression", "slides": 4, "patients": 4},
    ]
    assert [step["files"] for step in pairing.flow(result, "expression")] == [5, 5, 4, 4]
    gone = pairing.dropped(result)
    assert len(gone) == 8 - 4 + 5 - 4 + 1
    assert {"slide_id", "patient_id", "kind", "reason"} == set(gone[0])


def test_no_files_at_all() -> None:
    result = pair(table([]), table([]), ["TCGA-05-0099"])
    assert result["reason"].to_list() == [
        "the project has neither slide nor expression of this patient"
    ]
    assert pairing.flow(result)[-1]["slides"] == 0


@pytest.mark.parametrize(
    ("project", "patients", "kept", "copies"), [("LUAD", 473, 535, 6), ("COAD", 447, 454, 11)]
)
def test_real_lists_of_slides(
    shared_data: Path, project: str, patients: int, kept: int, copies: int
) -> None:
    """GDC's real lists, with expression of the published patients.

    The paper counts 536 and 455 slides: one more each, and each list has one slide that isn't of
    a primary tumour (a recurrence, a metastasis).
    """
    path = next((shared_data / "gdc").glob(f"*diagnostic_TCGA-{project}.txt"))
    split = pl.read_csv(shared_data / "splits" / f"TCGA-{project}.tsv", separator="\t")
    names = split["patient_id"].unique().sort().to_list()
    stars = table([star(f"{name}-01A-11R-0946-07") for name in names])
    result = pair(manifest.read_gdc(path, client.GDC), stars, names)
    last = pairing.flow(result)[-1]
    assert (last["slides"], last["patients"]) == (kept, patients)
    reasons = [row["reason"] for row in pairing.dropped(result) if row["kind"] == "slide"]
    assert reasons.count("the same file is there under another name") == copies
    assert sum("was not asked for" in reason for reason in reasons) == 1
    left = result.filter(pl.col("reason").is_null() & (pl.col("kind") == "slide"))
    assert left["md5"].is_unique().all()
