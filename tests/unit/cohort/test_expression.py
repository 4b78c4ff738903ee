"""Expression tables: every accepted form gives one answer; every bad one, one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slide2rna.cohort.expression import read_expression, read_genes, to_log2
from slide2rna.cohort.star_counts import gene_ids
from slide2rna.core.errors import SheetError

GOOD = pl.DataFrame({"sample_id": ["P2", "P1"], "TP53": [1.0, 2.5], "A1BG": [0.0, 3.0]})


def save(table: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.write_parquet(path)
        return path
    text = table.write_csv(separator="\t" if ".tsv" in path.name else ",")
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["e.parquet", "e.csv", "e.tsv", "e.csv.gz", "e.tsv.gz"])
def test_formats(tmp_path: Path, name: str) -> None:
    table = read_expression(save(GOOD, tmp_path / name))
    assert table.columns == ["sample_id", "A1BG", "TP53"]
    assert table["sample_id"].to_list() == ["P1", "P2"]
    assert table.schema["TP53"] == pl.Float32
    assert table["TP53"].to_list() == [2.5, 1.0]


def test_a_pandas_index_column_is_found(tmp_path: Path) -> None:
    table = GOOD.select("TP53", "A1BG", pl.col("sample_id").alias("__index_level_0__"))
    assert read_expression(save(table, tmp_path / "e.parquet"))["TP53"].to_list() == [2.5, 1.0]
    (tmp_path / "e.csv").write_text(",TP53\nP1,1\n")
    assert read_expression(tmp_path / "e.csv").rows() == [("P1", 1.0)]


def test_units(tmp_path: Path) -> None:
    raw = pl.DataFrame({"sample_id": ["a", "b"], "G": [3, 1], "H": [1, 0]})
    path = save(raw, tmp_path / "e.csv")
    assert read_expression(path, unit="linear")["G"].to_list() == [2.0, 1.0]
    counts = read_expression(path, unit="counts")
    assert np.allclose(counts["G"].to_numpy(), np.log2(np.array([750_000, 1_000_000]) + 1))
    # CPM is over all genes, so choosing genes doesn't change a value
    chosen = read_expression(path, unit="counts", genes=["H"])
    assert chosen["H"].to_list() == counts["H"].to_list()


@given(st.lists(st.integers(0, 10**7), min_size=2, max_size=20).filter(any))
def test_counts_sum_to_a_million(values: list[int]) -> None:
    result = to_log2("t", ["a"], np.array([values]), "counts")
    assert np.isclose((2**result - 1).sum(), 1e6, rtol=1e-6)


def test_samples_and_genes_are_chosen(tmp_path: Path) -> None:
    path = save(GOOD, tmp_path / "e.parquet")
    table = read_expression(path, genes=["TP53"], samples=["P1", "P1"])
    assert table.rows() == [("P1", 2.5)]


def text_cell(gene: str) -> pl.DataFrame:
    return GOOD.with_columns(pl.Series(gene, ["1", "high"]))


@pytest.mark.parametrize("name", ["e.csv", "e.parquet"])
@pytest.mark.parametrize(
    ("table", "cause"),
    [
        (GOOD.with_columns(pl.Series("TP53", [1.0, None])), "missing, NaN or infinite, first gene"),
        (GOOD.with_columns(pl.Series("TP53", [1.0, float("nan")])), "gene TP53 of P1"),
        (GOOD.with_columns(pl.Series("TP53", [1.0, float("inf")])), "infinite"),
        (GOOD.with_columns(pl.Series("TP53", [1.0, -0.1])), "1 values are negative"),
        (
            GOOD.with_columns(pl.Series("TP53", [1.0, 900.0])),
            "a value of 900 (gene TP53 of sample P1)",
        ),
        (text_cell("TP53"), "TP53"),
        (GOOD.with_columns(pl.lit("P1").alias("sample_id")), "sample P1 has several rows"),
        (GOOD.with_columns(pl.Series("sample_id", ["P1", " "])), "sample_id is empty"),
        (GOOD.head(0), "no samples"),
        (GOOD.select("sample_id"), "no genes"),
    ],
)
def test_bad_tables(tmp_path: Path, table: pl.DataFrame, cause: str, name: str) -> None:
    path = save(table, tmp_path / name)
    with pytest.raises(SheetError) as caught:
        read_expression(path)
    assert cause in caught.value.cause
    assert str(path) in caught.value.where
    assert "\n" not in str(caught.value)


def test_a_text_cell_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("sample_id,G,H\nP1,1,2\nP2,1,#DIV/0!\n")
    with pytest.raises(SheetError) as caught:
        read_expression(tmp_path / "e.csv")
    assert caught.value.where.endswith("line 3")
    assert "gene H of sample P2 is '#DIV/0!'" in caught.value.cause


@pytest.mark.parametrize("row", ["P1,1", "P1,1,2,3"])
def test_ragged_rows(tmp_path: Path, row: str) -> None:
    (tmp_path / "e.csv").write_text(f"sample_id,G,H\n{row}\n")
    with pytest.raises(SheetError):
        read_expression(tmp_path / "e.csv")


def test_blank_lines_and_spaces_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("\nsample_id,G\nP1, 1\n\nP2,2\n\n\n")
    assert read_expression(tmp_path / "e.csv").rows() == [("P1", 1.0), ("P2", 2.0)]


def test_repeated_genes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("sample_id,G,G\nP1,1,2\n")
    with pytest.raises(SheetError, match=r"gene G .*columns"):
        read_expression(tmp_path / "e.csv")


def test_ids_that_are_numbers_in_csv_stay_text(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("patient,G\n007,1\n")
    assert read_expression(tmp_path / "e.csv", samples=["007"]).rows() == [("007", 1.0)]
    pl.DataFrame({"patient": [7], "G": [1.0]}).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(SheetError, match="sample ids"):
        read_expression(tmp_path / "e.parquet")


def test_patient_without_expression_is_named(tmp_path: Path) -> None:
    path = save(GOOD, tmp_path / "e.parquet")
    with pytest.raises(SheetError, match="P3;"):
        read_expression(path, samples=["P1", "P3"])
    with pytest.raises(SheetError, match=r"P1, P2"):
        read_expression(path, samples=["X"])


def test_a_transposed_table_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("gene,P1,P2\nTP53,1,2\nA1BG,3,4\n")
    with pytest.raises(SheetError, match="transpose"):
        read_expression(tmp_path / "e.csv", samples=["P1", "P2"])


def test_missing_gene_is_named(tmp_path: Path) -> None:
    path = save(GOOD, tmp_path / "e.parquet")
    with pytest.raises(SheetError, match=r"1 of 2 .*NOPE"):
        read_expression(path, genes=["TP53", "NOPE"])


def test_a_sample_without_counts_is_refused(tmp_path: Path) -> None:
    path = save(pl.DataFrame({"s": ["a", "b"], "G": [1, 0]}), tmp_path / "e.csv")
    with pytest.raises(SheetError, match="sample b "):
        read_expression(path, unit="counts")


@pytest.mark.parametrize("text", ["gene\nB\nA\nB\n", "B\r\nA\r\n", "symbol,type\nA,x\nB,y\n"])
def test_gene_lists(tmp_path: Path, text: str) -> None:
    (tmp_path / "genes.csv").write_text(text)
    assert read_genes(tmp_path / "genes.csv") == ["A", "B"]


STAR_HEADER = (
    "gene_id\tgene_name\tgene_type\tunstranded\tstranded_first\tstranded_second\t"
    "tpm_unstranded\tfpkm_unstranded\tfpkm_uq_unstranded"
)


def star(folder: Path, sample: str, values: dict[str, tuple[str, int]], gz: bool = False) -> None:
    """A file in GDC's layout; `values` maps gene_id to name and count, FPKM-UQ is count / 2."""
    lines = ["# gene-model: GENCODE v36", STAR_HEADER]
    lines += [f"N_{kind}\t\t\t99\t99\t99\t\t\t" for kind in ("unmapped", "multimapping")]
    for gene, (name, count) in values.items():
        numbers = [count, 0, 0, count / 4, count / 3, count / 2]
        lines.append("\t".join([gene, name, "protein_coding", *map(str, numbers)]))
    raw = ("\n".join(lines) + "\n").encode()
    name = f"{sample}.rna_seq.augmented_star_gene_counts.tsv" + (".gz" if gz else "")
    (folder / name).write_bytes(gzip.compress(raw) if gz else raw)


GENES = {
    "ENSG1.1": ("TP53", 6),
    "ENSG2.3": ("MIR", 2),
    "ENSG3.1": ("MIR", 30),
    "ENSG4.1": ("XY", 14),
    "ENSG4.1_PAR_Y": ("XY", 1000),
}


def test_star_folder(tmp_path: Path) -> None:
    star(tmp_path, "P2", GENES)
    star(tmp_path, "P1", {gene: (name, 0) for gene, (name, _) in GENES.items()}, gz=True)
    table = read_expression(tmp_path, samples=["P2", "P1"])
    assert table.columns == ["sample_id", "MIR", "TP53", "XY"]
    # MIR is the id with the higher mean; XY is not its PAR_Y copy; the N_ rows are gone
    assert table.rows() == [("P1", 0, 0, 0), ("P2", 4.0, 2.0, 3.0)]
    only = read_expression(tmp_path, samples=["P2"], column="unstranded")
    assert np.isclose(only["TP53"][0], np.log2(6 / (6 + 30 + 14) * 1e6 + 1))


def test_bad_star_folders(tmp_path: Path) -> None:
    with pytest.raises(SheetError, match=r"\.tsv"):
        read_expression(tmp_path)
    star(tmp_path, "P1", GENES)
    with pytest.raises(SheetError, match="P9"):
        read_expression(tmp_path, samples=["P1", "P9"])
    star(tmp_path, "P2", {gene: GENES[gene] for gene in list(GENES)[1:]})
    with pytest.raises(SheetError, match=r"genes.*P1"):
        read_expression(tmp_path)
    twin = tmp_path / "P2.other.tsv"
    twin.write_text("x")
    with pytest.raises(SheetError, match="sample P2 "):
        read_expression(tmp_path)
    twin.unlink()
    (tmp_path / "P3.tsv").write_text("gene_id\tgene_name\nENSG1\tA\n")
    with pytest.raises(SheetError, match="'fpkm_uq_unstranded'"):
        read_expression(tmp_path, samples=["P3"])
    star(tmp_path, "P4", {"ENSG1.1": ("TP53", 1)})
    broken = next(tmp_path.glob("P4*"))
    broken.write_text(broken.read_text().replace("0.5", "half"))
    with pytest.raises(SheetError, match=r"TP53 .*'half'"):
        read_expression(tmp_path, samples=["P4"])


def test_folders_of_gdc_client_and_files_of_macos(tmp_path: Path) -> None:
    for sample in ("P1", "P2"):
        folder = tmp_path / f"{sample}-uuid"
        (folder / "logs").mkdir(parents=True)
        star(folder, sample, GENES)
        (folder / "logs" / f"{sample}.rna_seq.tsv").write_text("no counts")
        (folder / f"._{sample}.rna_seq.tsv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "._P1.tsv").write_bytes(b"\0\5\x16\7")
    assert read_expression(tmp_path)["sample_id"].to_list() == ["P1", "P2"]


def test_ids_of_names_that_have_one(tmp_path: Path) -> None:
    star(tmp_path, "P1", GENES | {"ENSG7.1": ("TWO", 1), "ENSG8.1": ("TWO", 2)})
    found = gene_ids(tmp_path)
    assert found["TP53"] == "ENSG1.1"
    assert "TWO" not in found
