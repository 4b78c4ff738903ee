"""Output folders: one command at a time, and no row is lost."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import polars as pl
import pytest
from slide2rna.core.output_folder import alone
from slide2rna.predict.predict_slides import SCHEMA, _write_slide_list


def test_rows_of_commands_that_write_one_list_are_all_kept(tmp_path: Path) -> None:
    def write(name: str) -> None:
        row = {"slide": name, "status": "ok", "warnings": []}
        with alone(tmp_path, "slides"):
            _write_slide_list(pl.DataFrame([row], schema=SCHEMA), tmp_path / "slides.parquet")

    names = [f"S{number:02d}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, names))
    assert pl.read_parquet(tmp_path / "slides.parquet")["slide"].to_list() == names


def test_a_second_command_waits_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order, waits = list[str](), threading.Event()

    def second() -> None:
        with alone(tmp_path, "S1"):
            order.append("second")

    class Watcher(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting" in record.getMessage():
                waits.set()

    caplog.set_level(logging.INFO)
    logging.getLogger().addHandler(watcher := Watcher())
    try:
        with alone(tmp_path, "S1"), alone(tmp_path, "S2"):
            thread = threading.Thread(target=second)
            thread.start()
            assert waits.wait(60)
            order.append("first")
        thread.join(60)
    finally:
        logging.getLogger().removeHandler(watcher)
    assert order == ["first", "second"]


def test_a_disk_without_locks_is_named_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: object, timeout: float | None = None) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", fails)
    with alone(tmp_path, "S1"):
        (tmp_path / "done").touch()
    assert "No locks available" in caplog.text
