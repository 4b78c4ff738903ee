"""Strangers' texts: JSON that misleads a reader, and characters that mislead a person."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from unittest import mock

import pytest
from slide2rna.core import cli, config, files
from slide2rna.core.errors import ConfigError, SheetError, StageError, escape, has_control
from slide2rna.core.log import PlainText


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, '{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}', "9" * 5000],
    ids=lambda text: text[:10],
)
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        files.parse_json(text)


def test_json_that_is_read() -> None:
    text = '{"a": [1, {"a": null}], "b": 1e400}'
    assert files.parse_json(text) == {"a": [1, {"a": None}], "b": float("inf")}


@pytest.mark.parametrize("text", ["a\0", "\x1b[2J", "\u202eb", "a\u200bb", "\ud800", "a\u2028b"])
def test_control_characters_are_escapes(text: str) -> None:
    assert has_control(text)
    assert escape(text).isprintable()
    error = SheetError(f"{text}.svs", f"cause {text}", f"remedy\n{text}")
    assert str(error).isprintable()
    assert error.reason.isprintable()
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s failed", (text,), None)
    assert PlainText("%(message)s").format(record) == f"{escape(text)} failed"


@pytest.mark.parametrize("text", ["Köln", "名", "a b", "µm", "x\xa0y"])
def test_other_letters_stay(text: str) -> None:
    assert not has_control(text)
    assert escape(text) == text


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("libLLVM.so: cannot allocate memory in static TLS block"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run(fail, stage=False)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: too little memory")


def test_too_little_address_space_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for space, fits in ((cli.LEAST_SPACE - 1, False), (cli.LEAST_SPACE, True), (-1, True)):
        monkeypatch.setattr(cli.resource, "getrlimit", lambda _, space=space: (space, -1))
        with (
            mock.patch.dict(os.environ),
            contextlib.nullcontext() if fits else pytest.raises(ConfigError, match="ulimit"),
        ):
            cli.set_threads(1)


def test_another_import_error_keeps_its_traceback() -> None:
    def fail(_: object) -> None:
        raise ImportError("cannot import name 'x'")

    with pytest.raises(ImportError):
        cli.run(fail, stage=False)


def test_cohorts_that_differ_by_case_only() -> None:
    cohorts = {name: {"source": "demo"} for name in ("B", "a", "b")}
    with pytest.raises(ConfigError, match="B and b"):
        config.validate({"cohorts": cohorts})


def test_a_record_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"key": 1, "key": 2}')
    with pytest.raises(StageError, match="key"):
        files.read_json(tmp_path / "a.json")
