"""Names from outside on every way in: sheets, tables, STAR files, gene lists and gene sets."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from slide2rna.cohort.expression import read_expression, read_gene_list
from slide2rna.cohort.sheet import read_sheet
from slide2rna.core.errors import PathwayError, SheetError, UserError
from slide2rna.pathways import sources

CONTROL = ["A\x1b[1mB", "A\u202eB", "A\u200bB", "A\x85B"]
STAR = "gene_id\tgene_name\tgene_type\tfpkm_uq_unstranded\n"


def star(folder: Path, *genes: tuple[str, str], name: str = "P1.tsv") -> Path:
    lines = [
        f"{gene}\t{symbol}\tprotein_coding\t{i + 1}.0" for i, (gene, symbol) in enumerate(genes)
    ]
    (folder / name).write_text(STAR + "\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("name", CONTROL)
@pytest.mark.parametrize("way", ["csv", "parquet", "star", "sample", "list", "gmt", "set", "json"])
def test_control_characters_are_refused(tmp_path: Path, way: str, name: str) -> None:
    path = tmp_path / "given"
    if way == "star":
        read = lambda: read_expression(star(tmp_path, ("E1", name), ("E2", "TP53")))  # noqa: E731
    elif way == "list":
        path.write_text(f"TP53\n{name}\n")
        read = lambda: read_gene_list(path)  # noqa: E731
    elif way in ("gmt", "set"):
        path.write_text("a\td\tTP53\n" + (f"b\td\t{name}\n" if way == "gmt" else f"{name}\td\tG\n"))
        read = lambda: sources.read_gmt(path, ["TP53"])  # noqa: E731
    elif way == "json":
        path.write_text(json.dumps({"a": ["TP53", name]}))
        read = lambda: sources.read_index_json(path, ["TP53"])  # noqa: E731
    else:
        path = tmp_path / ("e.csv" if way == "csv" else "e.parquet")
        genes = {"TP53": [1.0, 2.0], "X" if way == "sample" else name: [1.0, 2.0]}
        ids = ["P1", name] if way == "sample" else ["P1", "P2"]
        table = pl.DataFrame({"sample_id": ids, **genes})
        if way == "csv":
            table.write_csv(path)
        else:
            table.write_parquet(path)
        read = lambda: read_expression(path)  # noqa: E731
    with pytest.raises(UserError, match=r"control character|no gene") as caught:
        read()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("column", ["site", "slide"])
@pytest.mark.parametrize("name", CONTROL)
def test_control_characters_in_a_sheet_are_refused(tmp_path: Path, column: str, name: str) -> None:
    row = {"slide_id": "S1", "patient_id": "P1", "slide": "", "site": "x"} | {column: name}
    (tmp_path / "s.tsv").write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n")
    with pytest.raises(SheetError, match="control character") as caught:
        read_sheet(tmp_path / "s.tsv")
    assert caught.value.where.endswith("line 2")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        (["a,P1,S1", "A,P2,S2"], "slide_id"),
        (["a,P1,S1", "b,p1,S2"], "patient_id"),
        (["a,P1,S1", "b,P2,s1"], "sample_id"),
    ],
)
def test_ids_that_differ_by_case_only(tmp_path: Path, rows: list[str], column: str) -> None:
    lines = ["slide_id,patient_id,sample_id,slide", "c,P3,S3,", *(f"{row}," for row in rows)]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(SheetError) as caught:
        read_sheet(tmp_path / "s.csv")
    assert caught.value.where.endswith("lines 3, 4")
    assert column in caught.value.cause
    (tmp_path / "s.csv").write_text("\n".join(lines[:3]) + "\n")
    assert read_sheet(tmp_path / "s.csv").height == 2


def test_a_gene_id_twice_in_a_star_file(tmp_path: Path) -> None:
    star(tmp_path, ("E1", "TP53"), ("E2", "CD3D"), ("E1", "TP53"))
    with pytest.raises(SheetError, match="gene_id E1 occurs twice"):
        read_expression(tmp_path)
    star(tmp_path, ("E1", "TP53"), ("E2", ""))
    with pytest.raises(SheetError, match="E2 lacks"):
        read_expression(tmp_path)


@pytest.mark.parametrize("name", ["HLA-A /// HLA-B", "HLA A"])
@pytest.mark.parametrize("way", ["star", "csv", "parquet"])
def test_names_of_several_genes_stay_and_are_named(
    tmp_path: Path, way: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path
    if way == "star":
        star(tmp_path, ("E1", f" {name} "), ("E2", "TP53"))
    else:
        path = tmp_path / f"e.{way}"
        table = pl.DataFrame({"sample_id": ["P1", "P2"], name: [1.0, 2.0], "TP53": [1.0, 2.0]})
        getattr(table, f"write_{way}")(path)
    assert name in read_expression(path).columns
    assert f"hold a blank or ///, so no gene set has them: {name}" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000, "[[[", '{"a": [["A"]]}', '{"a": [{"A": 1}]}', '{"a": [null]}', "[]", "3",
        '{"a": [true]}', '{"a": ["A"], "a": ["B"]}', '{"a": [1.5]}', '{"a": "A"}', "\udcff",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_index_files_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "sets.json").write_text(text, errors="surrogateescape")
    with pytest.raises(PathwayError):
        sources.read_index_json(tmp_path / "sets.json", ["A", "B"])


@pytest.mark.parametrize("content", [b"a\td\tTP53\xff\n", b"\xff\xfea\0\t", b"PK\x03\x04", b""])
def test_gmt_files_that_are_no_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sets.gmt").write_bytes(content)
    with pytest.raises(UserError):
        sources.read_gmt(tmp_path / "sets.gmt", ["TP53"])
