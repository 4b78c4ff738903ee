"""A cohort from GDC: frozen once, then had again from the disk alone."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from gdc_server import RELEASE, GdcServer
from slide2rna.cohort import freeze, gdc_cohort
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, DownloadError, SheetError
from slide2rna.slides import download
from slide2rna.transfer import client

TABLES = ("slides.parquet", "expression.parquet", "splits.tsv", "cohort.json")
FOLDS = config.defaults("folds", n=3)
TUMOUR, NORMAL = "Primary Tumor", "Solid Tissue Normal"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.ServerSettings, "__init__", quick(client.ServerSettings.__init__))


def quick(init: Any) -> Any:
    return lambda self, **given: init(self, **({"tries": 2, "backoff_s": 0.01} | given))


def patient(i: int) -> str:
    return f"TCGA-{('05', '44')[i % 2]}-{i:04d}"


@pytest.fixture
def server() -> Iterator[GdcServer]:
    """Nine patients with a slide and expression, and what should be left out."""
    with GdcServer(page_limit=5) as world:
        for i in range(9):
            name, values = patient(i), {"TP53": 1.0 + i, "A1BG": 3.0, "ESR1": 7.0 * i}
            world.add_slide(f"{name}-01Z-00-DX1.AA{i}.svs", b"slide %d" % i, "TCGA-LUAD", TUMOUR)
            world.add_star(f"{name}-01A-11R-0946-07", values, "TCGA-LUAD", TUMOUR)
        world.add_slide(f"{patient(0)}-01Z-00-DX2.BB.svs", b"second", "TCGA-LUAD", TUMOUR)
        world.add_slide(f"{patient(1)}-01A-01-TS1.CC.svs", b"frozen", "TCGA-LUAD", TUMOUR)
        world.add_slide(f"{patient(20)}-01Z-00-DX1.DD.svs", b"alone", "TCGA-LUAD", TUMOUR)
        world.add_star(f"{patient(2)}-11A-11R-0946-07", {"TP53": 900.0}, "TCGA-LUAD", NORMAL)
        world.add_star(f"{patient(3)}-01B-11R-0946-07", {"TP53": 800.0}, "TCGA-LUAD", TUMOUR)
        world.add_patient(patient(21), "TCGA-LUAD")
        yield world


def block(server: GdcServer, folder: Path, **changes: Any) -> dict[str, Any]:
    own = {"source": "gdc", "project": "TCGA-LUAD", "api": server.url, "pathdb": server.url}
    own |= {"manifest": str(folder / "manifests" / "LUAD.tsv")} | changes
    return config.validate({"cohorts": {"LUAD": own}})["cohorts"]["LUAD"]


def build(server: GdcServer, folder: Path, **changes: Any) -> Path:
    freeze.freeze_cohort("LUAD", block(server, folder, **changes), FOLDS, 1, folder / "out")
    return folder / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **given: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_from_nothing_to_four_tables(server: GdcServer, tmp_path: Path) -> None:
    out = build(server, tmp_path)
    slides = pl.read_parquet(out / "slides.parquet")
    assert dict(slides.schema) == freeze.SCHEMA
    assert slides.height == 10
    assert slides["path"].null_count() == 10
    row = slides.row(0, named=True)
    assert row["slide_id"] == "TCGA-05-0000-01Z-00-DX1.AA0"
    assert row["sample_id"] == "TCGA-05-0000-01A"
    assert row["md5"] == hashlib.md5(b"slide 0").hexdigest()
    assert row["url"].startswith(f"{server.url}/data/")
    assert slides["site"].unique().sort().to_list() == ["05", "44"]

    expression = pl.read_parquet(out / "expression.parquet")
    assert expression.columns == ["sample_id", "A1BG", "ESR1", "TP53"]
    assert expression["sample_id"].to_list() == sorted(f"{patient(i)}-01A" for i in range(9))
    third = expression.filter(pl.col("sample_id") == f"{patient(3)}-01A")
    assert third["TP53"][0] == np.float32(np.log2(5))

    found = json.loads((out / "cohort.json").read_text())
    assert [(step["slides"], step["patients"]) for step in found["flow"]] == [
        (11, 10),
        (11, 10),
        (11, 10),
        (10, 9),
    ]
    reasons = {row["slide_id"] or row["patient_id"]: row["reason"] for row in found["dropped"]}
    assert len(reasons) == 5  # a slide, two expression files, two patients
    assert reasons[f"{patient(20)}-01Z-00-DX1.DD"].startswith("the patient has no expression")
    assert reasons[patient(21)].startswith("the project has neither")
    assert found["acquisition"]["release"] == RELEASE
    assert found["acquisition"]["patients_with_several_slides"] == 1
    assert found["acquisition"]["expression_flow"][-1]["files"] == 9
    assert found["n_sites"] == 2


def test_had_again_without_a_socket(server: GdcServer, tmp_path: Path, request: Any) -> None:
    shard = tmp_path / "out" / "slides" / "shard-0.parquet"

    def both_stages() -> dict[str, bytes]:
        tables = contents(build(server, tmp_path))
        settings = client.ServerSettings(api=server.url)
        download.download_shard(tmp_path / "out" / "slides.parquet", 0, 1, shard, settings)
        assert pl.read_parquet(shard)["status"].to_list() == ["ok"] * 10
        return tables | {"shard": shard.read_bytes()}

    before = both_stages()
    frozen = (tmp_path / "manifests" / "LUAD.tsv").read_bytes()
    asked = len(server.asked)
    for name in (*TABLES, "slides/shard-0.parquet"):
        (tmp_path / "out" / name).unlink()
    request.getfixturevalue("no_sockets")
    assert both_stages() == before
    assert (tmp_path / "manifests" / "LUAD.tsv").read_bytes() == frozen
    assert len(server.asked) == asked


def test_a_frozen_cohort_doesnt_grow(server: GdcServer, tmp_path: Path) -> None:
    build(server, tmp_path)
    server.add_slide(f"{patient(1)}-01Z-00-DX9.EE.svs", b"new", "TCGA-LUAD", TUMOUR)
    server.asked.clear()
    for star in (tmp_path / "out" / "star").glob("*-0000-01A.tsv"):
        star.unlink()
    assert pl.read_parquet(build(server, tmp_path) / "slides.parquet").height == 10
    assert {path.split("/")[1] for _, path, _ in server.asked} == {"data"}


def test_the_published_genes_come_once(
    server: GdcServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.bodies["/genes.csv"] = b"gene\nTP53\nA1BG\n"
    options = {"genes": "published", "genes_mirror": f"{server.url}/genes.csv"}
    with pytest.raises(DownloadError, match="published gene list"):
        build(server, tmp_path, **options)
    assert not (tmp_path / "out" / "genes_published.csv").exists()
    digest = hashlib.sha256(server.bodies["/genes.csv"]).hexdigest()
    monkeypatch.setattr(gdc_cohort, "PUBLISHED_SHA256", digest)
    for _ in range(2):
        table = pl.read_parquet(build(server, tmp_path, **options) / "expression.parquet")
        assert table.columns == ["sample_id", "A1BG", "TP53"]
    assert [path for _, path, _ in server.asked].count("/genes.csv") == 2
    file = tmp_path / "copy.csv"
    file.write_bytes(server.bodies["/genes.csv"])
    build(server, tmp_path, **(options | {"genes_mirror": str(file)}))
    with pytest.raises(DownloadError, match="gene list"):
        build(server, tmp_path, **(options | {"genes_mirror": str(tmp_path / "none.csv")}))


def test_the_real_published_list_is_the_pinned_one(shared_data: Path, tmp_path: Path) -> None:
    mirror = shared_data / "genes" / "gene_list_20820.csv"
    genes = gdc_cohort.gene_list({"genes": "published", "genes_mirror": str(mirror)}, tmp_path)
    assert genes is not None
    assert len(genes) == 20_820
    table = pl.read_csv(
        shared_data / "genes" / "gencode_v36_gene_id_name_type.tsv.gz", separator="\t"
    )
    assert set(genes) <= set(table["gene_name"])


def test_a_missing_gene_is_named(server: GdcServer, tmp_path: Path) -> None:
    (tmp_path / "genes.txt").write_text("TP53\nNOGENE\n")
    with pytest.raises(SheetError, match=r"1 of 2 .*NOGENE"):
        build(server, tmp_path, genes=str(tmp_path / "genes.txt"))


def test_gene_types(server: GdcServer, tmp_path: Path) -> None:
    for hit in server.files:
        body = server.bodies[f"/data/{hit['id']}"]
        if b"\tESR1\tprotein_coding" in body:
            body = body.replace(b"\tESR1\tprotein_coding", b"\tESR1\tlncRNA")
            server.bodies[f"/data/{hit['id']}"] = body
            hit |= {"md5sum": hashlib.md5(body).hexdigest(), "file_size": len(body)}
    for types, genes in (
        (["lncRNA"], ["ESR1"]),
        (["protein_coding"], ["A1BG", "TP53"]),
        (["lncRNA", "protein_coding"], ["A1BG", "ESR1", "TP53"]),
    ):
        out = build(server, tmp_path, gene_types=types)
        assert pl.read_parquet(out / "expression.parquet").columns == ["sample_id", *genes]
    with pytest.raises(SheetError, match="type 'mRNA'"):
        build(server, tmp_path, gene_types=["mRNA"])
    with pytest.raises(ConfigError, match="genes and gene_types"):
        build(server, tmp_path, gene_types=["lncRNA"], genes="published")


def test_another_column(server: GdcServer, tmp_path: Path) -> None:
    out = build(server, tmp_path, expression_column="unstranded")
    table = pl.read_parquet(out / "expression.parquet")
    row = table.filter(pl.col("sample_id") == f"{patient(1)}-01A")  # counts 2, 3 and 7
    assert np.isclose(2 ** row["TP53"][0] - 1, 1e6 * 2 / 12, rtol=1e-5)


def test_frozen_tissue_and_metastases_when_asked(server: GdcServer, tmp_path: Path) -> None:
    server.add_slide(f"{patient(4)}-06Z-00-DX1.FF.svs", b"met", "TCGA-LUAD", "Metastatic")
    values = {"TP53": 2.0, "A1BG": 3.0, "ESR1": 4.0}
    server.add_star(f"{patient(4)}-06A-11R-0946-07", values, "TCGA-LUAD", "Metastatic")
    out = build(server, tmp_path, slide_kind="all", sample_types=["01", "06"])
    slides = pl.read_parquet(out / "slides.parquet")
    assert slides.height == 12
    met = slides.filter(pl.col("slide_id").str.contains("-06Z-"))
    assert met["sample_id"].to_list() == [f"{patient(4)}-06A"]


def test_cptac_takes_slides_from_pathdb(server: GdcServer, tmp_path: Path) -> None:
    for i in range(8):
        name = f"C3L-{i:05d}"
        medium = "OCT" if i == 7 else "FFPE"
        server.add_cptac_slide(f"{name}-21", b"c%d" % i, "CPTAC-LUAD", name, "tumor_tissue", medium)
        values = {"TP53": 1.0 + i, "A1BG": 3.0}
        server.add_star(f"CPT{i:04d}", values, "CPTAC-3", TUMOUR, name, f"{name}-01")
    server.add_star("CPT9999", {"TP53": 1.0}, "CPTAC-3", TUMOUR, "C3N-99999", "C3N-99999-01")
    out = build(server, tmp_path, project="CPTAC-3", collection="CPTAC-LUAD")
    slides = pl.read_parquet(out / "slides.parquet")
    assert slides.height == 7
    assert slides["md5"].null_count() == 7  # PathDB promises none
    assert slides["sample_id"][0] == "C3L-00000-01"
    found = json.loads((out / "cohort.json").read_text())
    assert "CPTAC-LUAD" in found["acquisition"]["slides_from"]
    assert {row["patient_id"] for row in found["dropped"]} == {"C3L-00007"}


def test_a_list_of_slides(server: GdcServer, tmp_path: Path) -> None:
    chosen = [hit for hit in server.files if "DX1.AA" in hit["file_name"]][:6]
    lines = ["id\tfilename\tmd5\tsize\tstate"]
    lines += [f"{h['id']}\t{h['file_name']}\t{h['md5sum']}\t{h['file_size']}\tlive" for h in chosen]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    out = build(server, tmp_path, slide_list=str(tmp_path / "list.txt"))
    assert pl.read_parquet(out / "slides.parquet").height == 6


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"project": "TCGA-NONE"}, ConfigError, "'TCGA-NONE'"),
        ({"sample_types": ["03"]}, ConfigError, "sample type 01"),
        ({"api": "http://127.0.0.1:9"}, DownloadError, "127.0.0.1:9"),
    ],
)
def test_one_line_and_no_table(
    server: GdcServer, tmp_path: Path, changes: dict[str, Any], kind: type, message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)) as error:
        build(server, tmp_path, **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "slides.parquet").exists()


def test_a_withdrawn_expression_file(server: GdcServer, tmp_path: Path) -> None:
    source = block(server, tmp_path)
    gdc_cohort.freeze(
        source, Path(source["manifest"]), tmp_path, client.ServerSettings(api=server.url)
    )
    gone = next(hit for hit in server.files if hit["file_name"].endswith(".tsv"))
    del server.bodies[f"/data/{gone['id']}"]
    with pytest.raises(DownloadError, match="1 of 9 expression files"):
        build(server, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"project": None}, "project"),
        ({"project": "CPTAC-3"}, "'collection'"),
        ({"sample_types": ["11"]}, "01, 02"),
        ({"slide_kind": "frozen"}, "diagnostic, all"),
        ({"api": "ftp://x"}, "api"),
    ],
)
def test_the_schema_refuses(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    own = {"source": "gdc", "project": "TCGA-LUAD"} | changes
    with pytest.raises(ConfigError, match=message):
        config.validate({"cohorts": {"LUAD": {k: v for k, v in own.items() if v is not None}}})
