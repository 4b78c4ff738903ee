"""A stranger's tables of a packaged model: each fault is one line that names the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import packaged
import polars as pl
import pytest
from slide2rna.core.errors import StageError
from slide2rna.package import predictor
from slide2rna.storage import parquet


@pytest.fixture
def copy(packed: packaged.Packaged, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed.model, tmp_path / "elsewhere"))


def first(column: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A change of a column's first cell."""
    return lambda table: table.with_columns(
        pl.Series(column, [value, *table[column].to_list()[1:]], dtype=table.schema[column])
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(("genes", lambda t, c=c: t.drop(c)) for c in ("gene", "r", "mean", "reliability")),
        *(("pathways", lambda t, c=c: t.drop(c)) for c in ("genes", "train_sd", "r_low")),
        *(("conformal", lambda t, c=c: t.drop(c)) for c in ("fold", "factor", "gene")),
        ("genes", lambda t: t.clear()),
        ("genes", lambda t: t.with_columns(pl.lit("x").alias("r"))),
        ("genes", first("gene", "A\u202eB")),
        ("genes", first("gene", None)),
        ("genes", first("sd", -1.0)),
        ("genes", first("mean", float("nan"))),
        ("genes", lambda t: t.with_columns(pl.lit("G").alias("gene"))),
        ("pathways", first("genes", ["nobody"])),
        ("pathways", first("genes", [])),
        ("pathways", first("name", "\x1b[1m")),
        ("pathways", lambda t: t.with_columns(pl.col("genes").list.join(" "))),
        ("conformal", lambda t: t.with_columns(pl.col("factor").cast(pl.String))),
    ],
)
def test_a_strangers_table_is_refused(
    copy: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    path = copy / f"{name}.parquet"
    parquet.write(change(pl.read_parquet(path)), path)
    packaged.sign(copy)
    with pytest.raises(StageError) as caught:
        predictor.load(copy, "cpu")
    assert caught.value.where == str(path)
    assert str(caught.value).isprintable()


def test_tables_of_another_model_are_refused(copy: Path) -> None:
    path = copy / "genes.parquet"
    parquet.write(pl.read_parquet(path).reverse(), path)
    packaged.sign(copy)
    with pytest.raises(StageError, match="another model"):
        _ = predictor.load(copy, "cpu").fold_models[0]
