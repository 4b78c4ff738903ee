"""The leak guard stops for a unit, or a file, in two parts of one fold, and says which."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from slide2rna.cohort import leak_guard, splits
from slide2rna.core import config
from slide2rna.core.errors import LeakError, StageError
from slide2rna.slides import download
from slide2rna.storage import parquet
from slide2rna.transfer import client


def slides_of(folder: Path, count: int = 10, copy: bool = False) -> pl.DataFrame:
    """One slide per patient, measured; with `copy`, P9's file is a copy of P0's."""
    rows = []
    for number in range(count):
        path = folder / f"S{number}.svs"
        path.write_text(f"slide {0 if copy and number == count - 1 else number}")
        rows.append((f"S{number}", f"P{number}", f"P{number}", str(path)))
    table = pl.DataFrame(rows, schema=["slide_id", "patient_id", "unit", "path"], orient="row")
    table = table.with_columns(
        url=pl.lit(None, pl.String), md5=pl.lit(None, pl.String), size=pl.lit(None, pl.Int64)
    )
    checked = download.fetch_slides(
        download.shard_rows(table, 0, 1), folder / "files", client.ServerSettings()
    )
    return download.checked_table(checked, table.schema)


def folds_of(slides: pl.DataFrame) -> pl.DataFrame:
    units = slides.select("unit").unique().with_columns(site=pl.lit(None, pl.String))
    return splits.draw(units, config.defaults("folds"), 1)


def test_drawn_folds_pass(tmp_path: Path) -> None:
    slides = slides_of(tmp_path)
    result = leak_guard.check_split(slides, folds_of(slides))
    assert result == {"ok": True, "folds": 5, "units": 10, "slides": 10, "slides_with_md5": 10}


def test_a_leaking_split_is_named(tmp_path: Path) -> None:
    slides = slides_of(tmp_path)
    table = folds_of(slides)
    row = table.filter((pl.col("unit") == "P3") & (pl.col("fold") == 2))
    other = "val" if row["part"][0] != "val" else "train"
    table = pl.concat([table, row.with_columns(part=pl.lit(other))])
    with pytest.raises(LeakError) as caught:
        leak_guard.check_split(slides, table)
    assert caught.value.where == "fold 2"
    assert "P3 (" in caught.value.cause
    assert row["part"][0] in caught.value.cause
    assert other in caught.value.cause


def test_a_copied_file_is_named_with_both_patients(tmp_path: Path) -> None:
    slides = slides_of(tmp_path, copy=True)
    with pytest.raises(LeakError) as caught:
        leak_guard.check_split(slides, folds_of(slides))
    assert caught.value.where == "fold 0"
    assert "S0 of P0" in caught.value.cause
    assert "S9 of P9" in caught.value.cause


def test_a_copy_within_one_part_is_no_leak(tmp_path: Path) -> None:
    slides = slides_of(tmp_path, copy=True).with_columns(
        unit=pl.when(pl.col("unit") == "P9").then(pl.lit("P0")).otherwise("unit")
    )
    assert leak_guard.check_split(slides, folds_of(slides))["ok"]


def test_slides_without_files_are_not_each_others_copies(tmp_path: Path) -> None:
    empty = pl.lit(None, pl.String)
    slides = slides_of(tmp_path).with_columns(path=empty, md5=empty)
    assert leak_guard.check_split(slides, folds_of(slides))["slides_with_md5"] == 0


def test_a_slide_without_a_part(tmp_path: Path) -> None:
    slides = slides_of(tmp_path)
    table = folds_of(slides).filter((pl.col("unit") != "P4") | (pl.col("fold") != 1))
    with pytest.raises(StageError, match=r"fold 1: .*S4"):
        leak_guard.check_split(slides, table)


def test_command_line(tmp_path: Path, repo: Path) -> None:
    slides = slides_of(tmp_path, copy=True)
    shards = [tmp_path / f"shard-{number}.parquet" for number in (0, 1)]
    parquet.write(slides.head(4), shards[0])
    parquet.write(slides.tail(6), shards[1])
    folds_of(slides).write_csv(tmp_path / "splits.tsv", separator="\t")
    command = [sys.executable, str(repo / "scripts" / "split.py"), "guard"]
    command += ["--shards", *map(str, shards)]
    command += ["--splits", str(tmp_path / "splits.tsv"), "--out", str(tmp_path / "guard.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "S9 of P9" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "guard.json").exists()
    parquet.write(slides.filter(pl.col("slide_id") != "S9").tail(5), shards[1])
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert json.loads((tmp_path / "guard.json").read_text())["ok"] is True
