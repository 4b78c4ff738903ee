"""A seal covers every byte of a file except its own mark."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from slide2rna.core import files, seal
from slide2rna.core.errors import StageError


@pytest.mark.parametrize("before", [b"", b"head ", b"x" * (seal.HEAD + 7)])
def test_the_digest_is_that_of_the_file_with_zeros(tmp_path: Path, before: bytes) -> None:
    path, after = tmp_path / "a.bin", b" tail" * 300_000
    blank = before + seal.BLANK.encode() + after
    path.write_bytes(blank)
    seal.close(path)
    digits = path.read_bytes()[len(before) + len(seal.MARK) :][: seal.DIGITS]
    assert digits.decode() == hashlib.sha256(blank).hexdigest()
    assert seal.is_intact(path) is True
    assert seal.close_bytes(blank) == path.read_bytes()
    assert seal.is_intact_bytes(path.read_bytes()) is True


@pytest.mark.parametrize("place", [0, 30, -1])
def test_a_changed_byte_is_named(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.bin"
    content = bytearray(seal.close_bytes(b"head " + seal.BLANK.encode() + b" tail"))
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(StageError, match=r"a\.bin: damaged or edited.*rerun"):
        seal.check(path)


@pytest.mark.parametrize("content", [b"", b"a file of another program", seal.MARK.encode() * 2])
def test_a_file_without_a_seal_passes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert seal.is_intact(tmp_path / "a") is None
    assert seal.is_intact_bytes(content) is None
    seal.check(tmp_path / "a")


def test_a_file_without_room_for_a_seal_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no seal")
    with pytest.raises(ValueError, match="no seal"):
        seal.close(tmp_path / "a")


def test_json_that_was_edited_is_named_and_a_record_of_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json({"n": 3}, path)
    assert files.read_json(path) == files.read_record(path) == {"n": 3}
    path.write_text(path.read_text().replace("3", "4"))
    with pytest.raises(StageError, match="damaged or edited"):
        files.read_json(path)
    assert files.read_record(path) == {}
    path.write_text('{"n": 3')
    with pytest.raises(StageError, match="not readable as JSON"):
        files.read_json(path)
    assert files.read_record(tmp_path / "absent.json") == {}
