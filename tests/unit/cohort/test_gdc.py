"""GDC's and PathDB's words, spoken to a real server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from gdc_server import RELEASE, GdcServer
from slide2rna.cohort import gdc, pathdb
from slide2rna.core.errors import ConfigError, DownloadError, SheetError
from slide2rna.transfer.client import GDC, ServerSettings, get_json, session

PROJECT = "TCGA-LUAD"
QUICK = ServerSettings(tries=2, backoff_s=0.01, timeout_s=60)


def slide_name(patient: int, sample: str = "01Z", kind: str = "DX1") -> str:
    return f"TCGA-05-{patient:04d}-{sample}-00-{kind}.{patient:08X}-0000-4000-8000-000000000000.svs"


@pytest.fixture
def server() -> Iterator[GdcServer]:
    with GdcServer(page_limit=3) as world:
        for i in range(7):
            world.add_slide(slide_name(i), b"s%d" % i, PROJECT, "Primary Tumor")
            world.add_star(f"TCGA-05-{i:04d}-01A-11R-0946-07", {"A": i}, PROJECT, "Primary Tumor")
        world.add_slide(slide_name(7, "01A", "TS1"), b"frozen", PROJECT, "Primary Tumor")
        world.add_slide(slide_name(8), b"closed", PROJECT, "Primary Tumor", access="controlled")
        world.add_slide(slide_name(9), b"other", "TCGA-BRCA", "Primary Tumor")
        yield world


def test_the_release_is_read(server: GdcServer) -> None:
    assert gdc.release(session(QUICK), server.url) == RELEASE


def test_slides_come_page_by_page(server: GdcServer) -> None:
    table = gdc.slides(session(QUICK), server.url, PROJECT, "diagnostic")
    assert dict(table.schema) == gdc.SCHEMA
    assert set(table["name"]) == {slide_name(i) for i in range(7)}
    assert table["uuid"].is_sorted()
    starts = [body["from"] for _, path, body in server.asked if path == "/files"]
    assert starts == [0, 3, 6]
    row = table.filter(pl.col("name") == slide_name(3)).row(0, named=True)
    assert row["url"] == f"{server.url}/data/{row['uuid']}"
    assert (row["patient_id"], row["sample_type"], row["size"]) == ("TCGA-05-0003", "01", 2)
    assert row["aliquot"] is None
    assert row["state"] == "released"


def test_frozen_tissue_only_when_asked(server: GdcServer) -> None:
    table = gdc.slides(session(QUICK), server.url, PROJECT, "all")
    assert table["medium"].value_counts().sort("medium").rows() == [
        ("Diagnostic Slide", 7),
        ("Tissue Slide", 1),
    ]


def test_expression_of_all_or_some(server: GdcServer) -> None:
    client = session(QUICK)
    table = gdc.expression(client, server.url, PROJECT)
    assert table.height == 7
    assert table["aliquot"].sort()[0] == "TCGA-05-0000-01A-11R-0946-07"
    some = gdc.expression(client, server.url, PROJECT, ["TCGA-05-0002"])
    assert some["patient_id"].to_list() == ["TCGA-05-0002"]


def test_patients_and_an_unknown_project(server: GdcServer) -> None:
    client = session(QUICK)
    assert gdc.patients(client, server.url, "TCGA-BRCA") == ["TCGA-05-0009"]
    with pytest.raises(ConfigError, match="'TCGA-NONE'"):
        gdc.patients(client, server.url, "TCGA-NONE")


def test_a_list_that_changes_is_refused(server: GdcServer) -> None:
    real = server.answer

    def shrinking(path: str, query: dict[str, list[str]], body: Any) -> Any:
        found = real(path, query, body)
        if path == "/files" and body["from"] == 3:
            found["data"]["pagination"]["total"] = 6
        return found

    server.answer = shrinking  # type: ignore[method-assign]
    with pytest.raises(DownloadError, match="changed"):
        gdc.slides(session(QUICK), server.url, PROJECT, "diagnostic")


@pytest.mark.parametrize("answer", [{}, {"data": {}}, {"data": {"hits": []}}])
def test_an_answer_of_another_kind_is_refused(server: GdcServer, answer: Any) -> None:
    server.answer = lambda path, query, body: answer  # type: ignore[method-assign]
    with pytest.raises(DownloadError):
        gdc.slides(session(QUICK), server.url, PROJECT, "diagnostic")
    with pytest.raises(DownloadError, match="data_release"):
        gdc.release(session(QUICK), server.url)


def test_a_slides_own_name_says_which_sample(server: GdcServer) -> None:
    normal = {"submitter_id": "TCGA-05-0003-11A", "sample_type": "Solid Tissue Normal"}
    hit = next(hit for hit in server.files if hit["file_name"] == slide_name(3))
    hit["cases"][0]["samples"].append(normal)
    table = gdc.slides(session(QUICK), server.url, PROJECT, "diagnostic")
    row = table.filter(pl.col("name") == slide_name(3)).row(0, named=True)
    assert (row["specimen"], row["sample_type"]) == ("TCGA-05-0003-01Z", "01")


def test_a_file_without_a_name_is_one_line(server: GdcServer) -> None:
    del server.files[0]["file_name"]
    with pytest.raises(DownloadError, match="GDC"):
        gdc.slides(session(QUICK), server.url, PROJECT, "diagnostic")


@pytest.mark.parametrize(
    ("specimen", "name", "code"),
    [
        ("TCGA-05-4244-01A", "Solid Tissue Normal", "01"),
        ("TCGA-05-4244-11A", None, "11"),
        ("C3L-00001-02", "Primary Tumor", "01"),
        ("C3L-00001-06", "Solid Tissue Normal", "11"),
        ("C3L-00001-06", "Slides", None),
        (None, None, None),
    ],
)
def test_sample_codes(specimen: str | None, name: str | None, code: str | None) -> None:
    assert gdc.sample_code(specimen, name) == code


def test_the_server_speaks_as_recorded(server: GdcServer, shared_data: Path) -> None:
    """The recorded query of two fields: the same keys, in the same places, of the same types."""
    path = shared_data / "gdc" / "gdc_docs_real_responses.json"
    recorded = json.loads(path.read_text())["resp_10"]
    body = {
        "filters": {"op": "in", "content": {"field": "access", "value": ["open"]}},
        "fields": "file_id,file_name,file_size,cases.submitter_id",
        "size": 10,
        "from": 0,
        "sort": "file_id:asc",
    }
    ours = get_json(session(QUICK), f"{server.url}/files", json=body)
    assert shape(ours) == shape(recorded)


def shape(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: shape(value) for key, value in sorted(node.items())}
    return [shape(node[0])] if isinstance(node, list) else type(node).__name__


def test_recorded_hits_are_understood(shared_data: Path) -> None:
    path = shared_data / "gdc" / "gdc_docs_real_responses.json"
    answers = json.loads(path.read_text())
    hits = answers["resp_10"]["data"]["hits"]
    table = gdc._file_table(hits, "slide", GDC)
    row = table.filter(pl.col("uuid") == "d570eccc-3c1c-4c4f-ae04-96be71fbe016").row(0, named=True)
    assert row["patient_id"] == "TCGA-AN-A0FL"
    assert row["sample_type"] == "01"
    assert row["size"] == 1055798681
    assert row["url"] == f"{GDC}/data/{row['uuid']}"
    sample = answers["resp_11"]["data"]["cases"][0]["samples"][0]
    assert gdc.sample_code(sample["submitter_id"], sample["sample_type"]) == "10"
    assert gdc.SAMPLE_TYPES[sample["sample_type"]] == sample["sample_type_id"]


@pytest.fixture
def portal() -> Iterator[GdcServer]:
    with GdcServer(page_limit=2) as world:
        for i, (kind, medium) in enumerate(
            [
                ("tumor_tissue", "FFPE"),
                ("tumor_tissue", "OCT"),
                ("normal_tissue", "FFPE"),
                ("tumor_tissue", ""),
            ]
        ):
            world.add_cptac_slide(
                f"C3L-0000{i}-21", b"cptac%d" % i, "CPTAC-LUAD", f"C3L-0000{i}", kind, medium
            )
        world.add_cptac_slide("C3N-1-21", b"x", "CPTAC-BRCA", "C3N-1", "tumor_tissue", "FFPE")
        yield world


def test_pathdb(portal: GdcServer, tmp_path: Path) -> None:
    table = pathdb.fetch_table(portal.url, tmp_path / "slides.csv", QUICK)
    found = pathdb.slides(session(QUICK), portal.url, "cptac-luad", table)
    assert dict(found.schema) == gdc.SCHEMA
    assert found.select("uuid", "patient_id", "sample_type", "medium").rows() == [
        ("C3L-00000-21", "C3L-00000", "01", "FFPE"),
        ("C3L-00001-21", "C3L-00001", "01", "OCT"),
        ("C3L-00002-21", "C3L-00002", "11", "FFPE"),
        ("C3L-00003-21", "C3L-00003", "01", None),
    ]
    assert found["url"][0] == f"{portal.url}/system/files/wsi/C3L-00000-21.svs"
    assert found["name"][0] == "C3L-00000-21.svs"
    asked = len(portal.asked)
    assert pathdb.fetch_table(portal.url, tmp_path / "slides.csv", QUICK) == table
    assert len(portal.asked) == asked


def test_pathdb_refuses(portal: GdcServer, tmp_path: Path) -> None:
    client = session(QUICK)
    with pytest.raises(ConfigError, match=r"'CPTAC-XYZ'.* CPTAC-BRCA, CPTAC-LUAD"):
        pathdb.slides(client, portal.url, "CPTAC-XYZ", tmp_path / "slides.csv")
    (tmp_path / "bad.csv").write_text("Slide_ID,Case_ID\na,b\n")
    with pytest.raises(SheetError, match="'Specimen_ID'"):
        pathdb.slides(client, portal.url, "CPTAC-LUAD", tmp_path / "bad.csv")
    del portal.collections["CPTAC-LUAD"][0]["field_wsiimage"]
    with pytest.raises(DownloadError, match="field_wsiimage"):
        pathdb.slides(client, portal.url, "CPTAC-LUAD", tmp_path / "bad.csv")
