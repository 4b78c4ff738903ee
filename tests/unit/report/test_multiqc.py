"""The table for MultiQC: its header is YAML, its rows are the cohort's slides."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml
from slide2rna.core.errors import StageError
from slide2rna.report import multiqc
from slide2rna.storage import parquet


def tables(folder: Path) -> tuple[Path, Path, list[Path], list[Path]]:
    """Three slides of two samples: 0012 and b of one, c (failed) of the other."""
    slides, samples = folder / "slides.parquet", folder / "samples.parquet"
    parquet.write(
        pl.DataFrame({"slide_id": ["0012", "b", "c"], "sample_id": ["P1", "P1", "P2"]}), slides
    )
    parquet.write(pl.DataFrame({"sample_id": ["P1", "P2"], "rmse": [0.7, 0.9]}), samples)
    manifests = [folder / f"shard-{number}.parquet" for number in range(2)]
    schema = {"slide_id": pl.String, "status": pl.String, "reason": pl.String}
    schema |= {"n_tiles": pl.Int64, "n_rejected": pl.Int64}
    rows = [("0012", "ok", None, 1200, 3), ("b", "ok", None, 40, 0)]
    failed = [("c", "failed", "no 'tissue';\n leave\tit out", None, None)]
    for path, own in zip(manifests, (rows, failed), strict=True):
        parquet.write(pl.DataFrame(own, schema, orient="row"), path)
    shift = [folder / f"fold-{fold}.parquet" for fold in range(2)]
    for fold, (part, p) in enumerate((("test", 0.04), ("cal", 0.9))):
        names = ["0012", "b"]
        nothing = pl.Series([None, None], dtype=pl.Float64)
        judged = {"slide_id": names, "part": [part] * 2, "fold": [fold] * 2, "bag_p": [p] * 2}
        judged |= {"bag_p_train": [p / 3] * 2, "expression_p": nothing}
        parquet.write(pl.DataFrame(judged), shift[fold])
    return slides, samples, manifests, shift


def test_slides_and_their_numbers(tmp_path: Path) -> None:
    found = multiqc.slide_table(*tables(tmp_path))
    rows = {row["slide_id"]: row for row in found.to_dicts()}
    assert list(rows) == ["0012", "b", "c"]
    assert rows["0012"]["tiles"] == 1200
    assert rows["0012"]["bag_p"] == 0.04  # of the fold whose test part it is
    assert (rows["b"]["fold"], rows["b"]["rmse"]) == (0, 0.7)
    assert rows["c"]["rmse"] is rows["c"]["tiles"] is None
    assert rows["c"]["failed"].startswith("no 'tissue'")


def test_the_file_is_what_multiqc_reads(tmp_path: Path) -> None:
    path = tmp_path / "run_slides_mqc.tsv"
    multiqc.write(multiqc.slide_table(*tables(tmp_path)), "mine", "uni-flow-go-bp", path)
    lines = path.read_text().splitlines()
    head = [line.removeprefix("#") for line in lines if line.startswith("#")]
    about = yaml.safe_load("\n".join(head))
    assert about["plot_type"] == "generalstats"
    assert about["id"] == "slide2rna-mine-uni-flow-go-bp"
    columns = [name for entry in about["pconfig"] for name in entry]
    rows = [line.split("\t") for line in lines[len(head) :]]
    assert rows[0] == ["Sample", *columns]
    # A column that no slide has a value of is left out, so that none is empty.
    assert columns == [
        f"slide2rna_{name}"
        for name in ("fold", "tiles", "rejected", "bag_p", "bag_p_train", "rmse", "failed")
    ]
    assert {len(row) for row in rows} == {len(columns) + 1}
    assert rows[1] == ['"0012"', "0", "1200", "3", "0.04", "0.0133333", "0.7", ""]
    assert rows[3][0] == '"c"'
    assert rows[3][-1] == "\"no 'tissue'; leave it out\""
    for entry in about["pconfig"]:
        for settings in entry.values():
            assert settings["namespace"] == "slide2rna mine"
            assert settings["format"].format(0.5)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    slides, samples, manifests, shift = tables(tmp_path)
    shift[1].unlink()
    with pytest.raises(StageError, match=r"fold-1\.parquet: "):
        multiqc.slide_table(slides, samples, manifests, shift)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ('=HYPERLINK("http://evil")', "\"'=HYPERLINK('http://evil')\""),
        ("+1", '"\'+1"'),
        ("@a", '"\'@a"'),
        ("<img src=x>", '"&lt;img src=x>"'),
        ("a\tb\nc", '"a b c"'),
        ("0012", '"0012"'),
    ],
)
def test_names_are_neither_formulas_nor_html(name: str, cell: str) -> None:
    assert multiqc._cell(name) == cell
