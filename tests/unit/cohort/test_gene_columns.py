"""Columns that aren't genes: row numbers, identifiers, covariates, summary rows, dates."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from slide2rna.cohort import gene_columns
from slide2rna.cohort.expression import read_expression
from slide2rna.core.errors import SheetError

GENES = ["TP53", "ERBB2", "CD3D", "COL1A1"]
NO_GENES = [
    *("Unnamed: 0", "index", "__index_level_0__", "...1", "rownames", "patient_id", "case_id"),
    *("submitter id", "sample", "N_unmapped", "N_noFeature", "__no_feature", "__ambiguous"),
    *("age", "Age_at_diagnosis", "sex", "OS_time", "OS.time", "tumor_purity", "stage", "batch"),
    *("library_size", "total_counts", "n_genes", "RIN"),
]


def table(rows: int = 12, **columns: object) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    genes = {gene: rng.uniform(1, 12, rows) for gene in GENES}
    return pl.DataFrame({"sample_id": [f"P{i}" for i in range(rows)], **columns, **genes})


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("name", NO_GENES)
def test_no_gene_of_this_name(
    tmp_path: Path, name: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"e{suffix}"
    given = table(**{name: np.linspace(3, 40, 12)})
    if suffix == ".parquet":
        given.write_parquet(path)
    else:
        given.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    found = read_expression(path)
    assert found.columns == ["sample_id", *sorted(GENES)]
    assert f"left out: {name}" in caplog.text


@pytest.mark.parametrize("gene", ["AGER", "SITE1", "OS9", "RIN1", "INDEX1", "BATF", "PLATO", "MET"])
def test_genes_with_names_like_those_stay(gene: str) -> None:
    assert not gene_columns.is_no_gene(gene)


def test_summary_rows_don_t_count_in_the_library(tmp_path: Path) -> None:
    counts = table().with_columns((pl.col(GENES) * 100).round())
    counts.write_csv(tmp_path / "plain.csv")
    more = counts.with_columns(N_unmapped=pl.lit(1e6), __no_feature=pl.lit(5e5))
    more.write_csv(tmp_path / "more.csv")
    one, other = (read_expression(tmp_path / n, unit="counts") for n in ("plain.csv", "more.csv"))
    assert one.equals(other)


@pytest.mark.parametrize("start", [0, 1])
def test_a_row_number_under_any_name_is_left_out(
    tmp_path: Path, start: int, caplog: pytest.LogCaptureFixture
) -> None:
    table(ZZZ=np.arange(start, start + 12)).write_csv(tmp_path / "e.csv")
    assert "ZZZ" not in read_expression(tmp_path / "e.csv").columns
    assert "ZZZ" in caplog.text


def test_a_value_that_cannot_be_log2_names_the_column(tmp_path: Path) -> None:
    genes = {f"G{i}": np.linspace(0, 12, 12) for i in range(20)}
    table(**genes, odd=np.linspace(1000, 2000, 12)).write_csv(tmp_path / "e.csv")
    with pytest.raises(SheetError) as caught:
        read_expression(tmp_path / "e.csv")
    assert "odd" in caught.value.cause
    assert "linear" not in caught.value.remedy


def test_log2_values_that_are_called_linear_are_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table(**{f"G{i}": np.linspace(0, 15, 12) for i in range(60)}).write_csv(tmp_path / "e.csv")
    read_expression(tmp_path / "e.csv", unit="linear")
    assert "expression_unit: log2" in caplog.text


@pytest.mark.parametrize(
    "name", ["1-Mar", "2-Sep", "Mar-02", "44256", "2024-09-07", "01.03.2021", "1-Dec-15"]
)
def test_dates_of_a_spreadsheet_are_named(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    table(**{name: np.linspace(3, 9, 12)}).write_csv(tmp_path / "e.csv")
    assert name in read_expression(tmp_path / "e.csv").columns
    assert (
        f"dates that a spreadsheet made of names such as MARCHF1 and SEPTIN2: {name}" in caplog.text
    )


def test_entrez_ids_are_no_dates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    numbers = {str(name): np.linspace(3, 9, 12) for name in (7157, 2064, 44256, 915, 1277, 1956)}
    caplog.set_level(logging.INFO)
    table(**numbers).write_csv(tmp_path / "e.csv")
    read_expression(tmp_path / "e.csv")
    assert "spreadsheet" not in caplog.text


def test_names_are_stripped_and_then_distinct(tmp_path: Path) -> None:
    given = table().rename({"TP53": " TP53 "})
    given.write_parquet(tmp_path / "e.parquet")
    assert "TP53" in read_expression(tmp_path / "e.parquet").columns
    table(**{"TP53 ": np.ones(12)}).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(SheetError, match="TP53"):
        read_expression(tmp_path / "e.parquet")


@pytest.mark.parametrize("name", ["TP\x0053", "A\u202eB", "A\x1b[1mB"])
def test_control_characters_are_refused(tmp_path: Path, name: str) -> None:
    table(**{name: np.ones(12)}).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(SheetError, match="control character") as caught:
        read_expression(tmp_path / "e.parquet")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "Hugo_Symbol\tEntrez_Gene_Id\tA\tB\nTP53\t7157\t1\t2\n\t1\t3\t4\n",
        "Hugo_Symbol\tA\tB\nSEPT2\t1\t2\nSEPT2\t3\t4\n",
        "Ensembl_ID\tA\tB\nENSG00000141510.16\t1\t2\n",
        "gene\tA\tB\nTP53\t1\t2\n",
        "#1.2\n2\t2\nName\tDescription\tA\tB\nENSG1\tTP53\t1\t2\n",
    ],
)
def test_matrices_of_portals_are_named_for_what_they_are(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.txt").write_text(text)
    with pytest.raises(SheetError) as caught:
        read_expression(tmp_path / "e.txt", samples=["A", "B"])
    assert "samples are its columns" in caught.value.cause
    assert "transpose it" in caught.value.remedy


def test_a_quotation_mark_swallows_no_sample(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text('sample_id,TP53,CD3D\n"P1,1,2\nP2,1,2\nP3",1,2\n')
    with pytest.raises(SheetError) as caught:
        read_expression(tmp_path / "e.csv")
    assert "line 2" in caught.value.where
