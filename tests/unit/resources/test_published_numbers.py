"""The published tables as text: complete, without repeats, and equal to the numbers pinned here."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

TOP = ["T1000", "T500", "T200", "T100", "T50", "T20"]
# RNA-FM with UNI features, PCC and sorted NRMSE, typed independently of the file.
RNA_FM = {
    "TCGA-LUAD": ".729/.074 .756/.066 .798/.059 .834/.054 .865/.050 .897/.046",
    "TCGA-BRCA": ".744/.072 .766/.064 .798/.057 .824/.052 .856/.048 .908/.043",
    "TCGA-COAD": ".775/.067 .827/.059 .888/.052 .920/.049 .943/.045 .964/.042",
    "CPTAC-LUAD": ".362/.075 .404/.067 .454/.060 .480/.055 .500/.052 .520/.048",
    "CPTAC-BRCA": ".456/.105 .498/.093 .537/.081 .557/.073 .572/.066 .586/.059",
    "CPTAC-COAD": ".396/.075 .439/.067 .485/.059 .515/.054 .543/.050 .571/.045",
}
KEY = ["table", "cohort", "method", "encoder", "gene_set"]


@pytest.fixture(scope="module")
def numbers(repo: Path) -> pl.DataFrame:
    return pl.read_csv(repo / "resources/published/numbers.tsv", separator="\t")


@pytest.mark.parametrize("cohort", RNA_FM)
def test_rna_fm_rows(numbers: pl.DataFrame, cohort: str) -> None:
    rows = numbers.filter(
        (pl.col("cohort") == cohort)
        & (pl.col("method") == "RNA-FM")
        & (pl.col("encoder") == "UNI")
        & pl.col("table").is_in([1, 3, 9, 10])
    )
    found = {
        name: (pcc, nrmse) for name, pcc, nrmse in rows.select("gene_set", "pcc", "nrmse").rows()
    }
    pairs = [tuple(map(float, pair.split("/"))) for pair in RNA_FM[cohort].split()]
    assert found == dict(zip(TOP, pairs, strict=True))


def test_no_row_is_there_twice_and_values_are_in_range(numbers: pl.DataFrame) -> None:
    assert not numbers.select(KEY).is_duplicated().any()
    assert numbers["pcc"].is_between(0, 1).all()
    assert numbers["nrmse"].is_between(0.04, 0.52).all()
    assert set(numbers["gene_set"]) == set(TOP)
    assert numbers.null_count().sum_horizontal().item() == 0
    assert dict(numbers["table"].value_counts().sort("table").rows()) == {
        **{1: 72, 3: 36, 4: 18, 5: 8, 6: 8, 7: 12},
        **{9: 36, 10: 18, 12: 18, 13: 18},
    }


def test_smaller_sets_score_better(numbers: pl.DataFrame) -> None:
    """Sets are nested and ranked, so a misread cell would break the order."""
    size = pl.col("gene_set").str.slice(1).cast(pl.Int64)
    main = numbers.filter(pl.col("table").is_in([1, 3, 9, 10]))
    for table in [main, *numbers.filter(pl.col("table") > 10).partition_by("table")]:
        for rows in table.sort(size, descending=True).partition_by("cohort", "method", "encoder"):
            assert rows["pcc"].is_sorted()
            assert rows["nrmse"].is_sorted(descending=True)


def test_ablations_repeat_the_full_model(numbers: pl.DataFrame) -> None:
    main = numbers.filter(pl.col("table").is_in([1, 9]) & (pl.col("encoder") == "UNI"))
    main = main.filter(pl.col("method") == "RNA-FM").drop("table", "method")
    same = ["RNA-FM", "RNA-FM learning rate 1e-4", "RNA-FM linear", "RNA-FM s=2"]
    full = numbers.filter(pl.col("method").is_in(same) & ~pl.col("table").is_in([1, 3, 9, 10]))
    assert full["table"].n_unique() == 6
    joined = full.join(main, on=["cohort", "encoder", "gene_set"], suffix="_main")
    assert joined.height == full.height == 30
    assert (joined["pcc"] == joined["pcc_main"]).all()
    assert (joined["nrmse"] == joined["nrmse_main"]).all()


def test_uncertainty(repo: Path) -> None:
    table = pl.read_csv(repo / "resources/published/uncertainty.tsv", separator="\t")
    assert table["gene_set"].to_list() == ["T1000", "T500", "T200"]
    covered = table.select("covered50", "covered80", "covered90").to_numpy()
    assert (covered[:, :-1] < covered[:, 1:]).all()
    assert covered[0].tolist() == [0.521, 0.766, 0.834]
    assert table["nll"].to_list() == [1.433, 0.652, -0.521]
    assert table["spearman"].to_list() == [0.646, 0.597, 0.521]
