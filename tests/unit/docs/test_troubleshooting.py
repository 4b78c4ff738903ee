"""The troubleshooting page quotes what the program prints: every trouble is provoked for real."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path

import pytest
from doc_blocks import blocks
from provoked_models import TROUBLES
from slide2rna.core import cli

pytestmark = pytest.mark.slow  # the package starts processes, or trains


PAGE = "docs/how-to/troubleshooting.md"
# On the page a placeholder stands for a path or a number, and for nothing else.
PLACEHOLDERS = {"<path>": r"\S+", "<n>": r"(?:-?[\d.,]+|nan|inf)", "<md5>": "[0-9a-f]{32}"}


def quoted(repo: Path) -> list[str]:
    """The messages of the page; a line that begins with spaces goes on with the one above."""
    found = []
    for block in blocks(repo / PAGE):
        if block.kind == "text":
            found += re.sub(r"\n +", " ", block.text).splitlines()
    return found


def pattern(message: str) -> re.Pattern[str]:
    parts = re.split("(" + "|".join(PLACEHOLDERS) + ")", message)
    return re.compile("".join(PLACEHOLDERS.get(part, re.escape(part)) for part in parts))


def printed(
    provoke: object, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> list[str]:
    """What a person sees: the line on stderr, or warnings of the log."""
    with contextlib.suppress(SystemExit):
        cli.run(lambda _: provoke() and None, stage=False)  # type: ignore[operator]
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors or [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("provoke", TROUBLES, ids=lambda provoke: provoke.__name__)
def test_every_printed_message_is_quoted(
    repo: Path,
    tmp_path: Path,
    provoke: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = printed(provoke, capsys, caplog)
    assert len(said) == 1, said
    fitting = [message for message in quoted(repo) if pattern(message).fullmatch(said[0])]
    assert len(fitting) == 1, said[0]


def test_every_quoted_message_is_provoked(repo: Path) -> None:
    """Each trouble fits one message (above), so equal numbers leave no message over."""
    messages = quoted(repo)
    assert len(messages) == len(set(messages)) == len(TROUBLES) >= 25


def test_a_changed_word_is_noticed() -> None:
    message = "error: <path>: <n> slides failed"
    assert pattern(message).fullmatch("error: results/x: 3 slides failed")
    assert not pattern(message).fullmatch("error: results/x: 3 slides have failed")
    assert not pattern(message).fullmatch("error: results/x: few slides failed")
