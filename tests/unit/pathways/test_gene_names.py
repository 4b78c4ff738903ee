"""Gene names: by Ensembl id, symbol, Entrez id or alias; unknown ones are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from slide2rna.core.errors import PathwayError
from slide2rna.pathways import gene_names, sources


@pytest.mark.parametrize(
    ("name", "ensembl", "expected"),
    [
        ("TP53", None, ("TP53", "symbol")),
        ("ENSG00000141510.16", None, ("TP53", "ensembl")),
        ("ENSG00000141510", None, ("TP53", "ensembl")),
        ("SKIV2L", "ENSG00000204351.11", ("SKIC2", "ensembl")),
        ("SKIV2L", None, ("SKIC2", "alias")),
        ("7157", None, ("TP53", "entrez")),
        ("MARCH1", None, ("MARCHF1", "alias")),
        ("SEPT2", None, ("SEPTIN2", "alias")),
        ("QARS", None, ("QARS1", "alias")),
        ("1-Mar", None, ("1-Mar", "unknown")),
        ("RP11-34P13.7", "ENSG00000999999.1", ("RP11-34P13.7", "unknown")),
    ],
)
def test_a_name_is_found(name: str, ensembl: str | None, expected: tuple[str, str]) -> None:
    assert gene_names.tables().find(name, ensembl) == expected


def test_current_symbols_are_never_taken_for_aliases() -> None:
    known = gene_names.tables()
    assert not known.symbols & set(known.aliases)
    assert set(known.aliases.values()) <= known.symbols


def test_renamed_genes_are_in_go_terms(repo: Path) -> None:
    old = ["SKIV2L", "TTC37", "WDR61", "ATP5MPL", "ATP5MD", "KIAA1109", "FAM126A"]
    sets = sources.gene_ontology(repo / "resources" / "go", old, "go-bp")
    assert {int(i) for index in sets.index for i in index} == set(range(len(old)))


def test_members_of_a_gmt_file_are_found_under_either_name(tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("one\t-\tSKIC2,1.0\t TP53 \t\ntwo\t-\tSKIV2L\tMARCH1\t\n")
    sets = sources.read_gmt(path, ["MARCHF1", "SKIV2L", "TP53"])
    assert [index.tolist() for index in sets.index] == [[1, 2], [0, 1]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_a_gmt_file(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "sets.gmt"
    path.write_bytes("gène\tdé\tTP53\tCD3D\n".encode(encoding))
    assert sources.read_gmt(path, ["CD3D", "TP53"]).names == ["gène"]


def test_unknown_names_are_counted_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    genes = ["TP53", "SKIV2L", "nobody-1", "nobody-2"]
    table = gene_names.name_table(genes, {})
    facts = gene_names.name_facts("expression", table)
    assert facts == {
        "found": {"alias": 1, "symbol": 1, "unknown": 2},
        "unknown": ["nobody-1", "nobody-2"],
    }
    assert "2 of 4 gene names" in caplog.text


def test_missing_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(PathwayError, match="resources/go"):
        gene_names.tables(tmp_path)
