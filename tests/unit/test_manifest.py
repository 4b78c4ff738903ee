"""The frozen manifest: the same bytes each time, and nothing that could do harm is read."""

from __future__ import annotations

import random
import re
from pathlib import Path

import polars as pl
import pytest
from slide2rna.cohort import gdc, manifest, pairing
from slide2rna.core.errors import SheetError
from slide2rna.transfer import client

RELEASES = {"slide": "Data Release 45.0", "expression": "Data Release 45.0"}
SCHEMA = gdc.SCHEMA


def made() -> pl.DataFrame:
    slides, stars = [], []
    for i in range(4):
        patient = f"TCGA-05-{i:04d}"
        shared = {"md5": f"{i:032X}", "size": 100 + i, "state": "released"}
        shared |= {"patient_id": patient, "sample_type": "01", "url": f"https://x/data/{i}"}
        slides.append(
            shared
            | {"kind": "slide", "uuid": f"s{i}", "name": f"{patient}-01Z-00-DX1.A{i}.svs"}
            | {"specimen": f"{patient}-01Z", "medium": "Diagnostic Slide"}
        )
        stars.append(
            shared
            | {"kind": "expression", "uuid": f"e{i}", "name": f"{i}.tsv"}
            | {"specimen": f"{patient}-01A", "aliquot": f"{patient}-01A-11R-0946-07"}
        )
    random.Random(1).shuffle(slides)
    tables = [pl.DataFrame(rows, schema=SCHEMA, orient="row") for rows in (slides, stars[:3])]
    return pairing.pair(*tables, ["TCGA-05-0009"])


def test_written_once_with_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.tsv", "b/b.tsv"):
        manifest.write(made(), RELEASES, tmp_path / name)
    text = (tmp_path / "a.tsv").read_bytes()
    assert text == (tmp_path / "b" / "b.tsv").read_bytes()
    assert b"\r" not in text
    assert text.endswith(b"\n")
    head, first, *rest = text.decode().splitlines()
    assert head.split("\t") == list(manifest.COLUMNS)
    assert first.startswith("slide\tTCGA-05-0000\tTCGA-05-0000-01Z-00-DX1.A0\tTCGA-05-0000-01A\t01")
    assert [line.split("\t")[0] for line in (first, *rest)] == (
        ["slide"] * 4 + ["expression"] * 3 + ["patient"]
    )


def test_read_is_what_was_written(tmp_path: Path) -> None:
    table = made()
    manifest.write(table, RELEASES, tmp_path / "m.tsv")
    found = manifest.read(tmp_path / "m.tsv")
    order = ["kind", "uuid", "reason"]
    again = found.drop("release").select(list(pairing.SCHEMA)).sort(order)
    assert again.equals(table.with_columns(pl.col("md5").str.to_lowercase()).sort(order))
    files = found.filter(pl.col("kind") != "patient")
    assert files["release"].unique().to_list() == ["Data Release 45.0"]
    assert pairing.dropped(found) == pairing.dropped(found)
    assert pairing.flow(found) == pairing.flow(table)


@pytest.mark.parametrize(
    ("column", "value", "cause"),
    [
        ("name", "../../etc/passwd", "name '../../etc/passwd'"),
        ("name", "/etc/passwd", "file name"),
        ("name", "a/b.svs", "file name"),
        ("name", "a\\b.svs", "file name"),
        ("name", "a..svs", "file name"),
        ("name", ".hidden", "file name"),
        ("name", "-rf", "file name"),
        ("name", "", "file name"),
        ("name", "TCGA-05-0001-01Z-00-DX1.A1.svs", "name"),
        ("slide_id", "../x", "slide_id"),
        ("slide_id", "TCGA-05-0001-01Z-00-DX1.A1", "slide_id"),
        ("uuid", "s1", "uuid"),
        ("uuid", "../status", "uuid"),
        ("uuid", "", "uuid"),
        ("md5", "abc", "md5"),
        ("md5", "z" * 32, "md5"),
        ("size", "-1", "size"),
        ("size", "1e6", "size"),
        ("size", "0", "size"),
        ("kind", "tar", "slide, expression or patient"),
        ("url", "", "url"),
        ("sample_id", "", "sample_id"),
        ("sample_id", "TCGA-05-0001-01A", "sample_id"),
        ("patient_id", "TCGA-05-0001", "sample_id"),
    ],
)
def test_a_bad_cell_is_one_line(tmp_path: Path, column: str, value: str, cause: str) -> None:
    path = tmp_path / "m.tsv"
    manifest.write(made(), RELEASES, path)
    lines = path.read_text().splitlines()
    cells = lines[1].split("\t")
    cells[manifest.COLUMNS.index(column)] = value
    path.write_text("\n".join([lines[0], "\t".join(cells), *lines[2:]]) + "\n")
    with pytest.raises(SheetError, match=re.escape(cause)) as error:
        manifest.read(path)
    assert "\n" not in str(error.value)
    assert "line" in str(error.value)


def test_a_sample_may_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    manifest.write(made(), RELEASES, path)
    path.write_text(path.read_text().replace("TCGA-05-0000-01A\t", "../../out\t"))
    with pytest.raises(SheetError, match="sample_id"):
        manifest.read(path)


def test_unreadable_manifests_are_not_frozen(tmp_path: Path) -> None:
    bad = made().with_columns(pl.lit("../x").alias("name"))
    with pytest.raises(SheetError, match="file name"):
        manifest.write(bad, RELEASES, tmp_path / "m.tsv")
    assert not list(tmp_path.iterdir())


def test_a_missing_column(tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_text("kind\tname\nslide\tx\n")
    with pytest.raises(SheetError, match="'patient_id'"):
        manifest.read(tmp_path / "m.tsv")


@pytest.mark.parametrize(("project", "rows"), [("LUAD", 550), ("COAD", 470)])
def test_real_gdc_manifests(shared_data: Path, project: str, rows: int) -> None:
    path = next((shared_data / "gdc").glob(f"*diagnostic_TCGA-{project}.txt"))
    table = manifest.read_gdc(path, client.GDC)
    assert dict(table.schema) == SCHEMA
    assert table.height == rows
    primary = table.filter(pl.col("sample_type") == "01")
    assert table.height - primary.height == 1  # a recurrence, or a metastasis
    assert (table["medium"] == "Diagnostic Slide").all()
    assert table["size"].min() > 0
    assert table["url"][0] == f"{client.GDC}/data/{table['uuid'][0]}"


def test_a_bad_gdc_manifest(tmp_path: Path) -> None:
    path = tmp_path / "gdc.txt"
    head = "id\tfilename\tmd5\tsize\tstate\n"
    path.write_text(head + f"u\t../x.svs\t{'0' * 32}\t5\tlive\n")
    with pytest.raises(SheetError, match="file name"):
        manifest.read_gdc(path, client.GDC)
    path.write_text(head + f"u\tx.svs\t{'0' * 32}\t5\tlive\n")
    with pytest.raises(SheetError, match="TCGA barcode"):
        manifest.read_gdc(path, client.GDC)
    path.write_text("id\tfilename\nu\tx.svs\n")
    with pytest.raises(SheetError, match="'md5'"):
        manifest.read_gdc(path, client.GDC)
