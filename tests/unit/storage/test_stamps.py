"""Stamps of inputs: another content gives another stamp, and a file is read once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slide2rna.core.files import sha256sum
from slide2rna.storage import stamps
from slide2rna.storage.stamps import MIB, MISSING, Stamps, cache_of, sample, slide_stamp


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read, in order."""
    read: list[str] = []

    def counting(path: str | Path) -> str:
        read.append(Path(path).name)
        return sample(path)

    monkeypatch.setattr(stamps, "sample", counting)
    return read


@given(content=st.binary(max_size=200), place=st.integers(0, 199))
def test_a_small_file_counts_with_every_byte(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, place: int
) -> None:
    path = tmp_path_factory.mktemp("s") / "s.svs"
    path.write_bytes(content)
    before = sample(path)
    changed = bytearray(content or b"x")
    changed[place % len(changed)] ^= 1
    path.write_bytes(changed)
    assert sample(path) != before


@pytest.mark.parametrize("place", [0, MIB - 1, -1, -MIB])
def test_a_large_file_counts_with_its_ends_and_its_size(tmp_path: Path, place: int) -> None:
    path = tmp_path / "large.svs"
    content = bytearray(6 * MIB)
    path.write_bytes(content)
    before = sample(path)
    content[place] = 1
    path.write_bytes(content)
    assert sample(path) != before
    content[place] = 0
    path.write_bytes(content + b"0")
    assert sample(path) != before


def test_another_slide_in_the_middle_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "large.svs"
    path.write_bytes(bytes(20 * MIB))
    before = sample(path)
    path.write_bytes(bytes(2 * MIB) + b"1" * 16 * MIB + bytes(2 * MIB))
    assert sample(path) != before


def test_a_file_is_read_again_only_if_its_status_changes(
    tmp_path: Path, counted: list[str]
) -> None:
    path, cache = tmp_path / "a.svs", tmp_path / stamps.CACHE
    path.write_bytes(b"1")
    (first,) = Stamps(cache).samples([path])
    assert Stamps(cache).samples([path, path]) == [first, first]
    assert counted == ["a.svs"]
    os.utime(path)
    assert Stamps(cache).samples([path]) == [first]
    assert counted == ["a.svs"] * 2
    before = path.stat()
    path.write_bytes(b"2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Stamps(cache).samples([path]) != [first]


def test_a_node_takes_what_the_plan_found(tmp_path: Path, counted: list[str]) -> None:
    path, cache = tmp_path / "a.svs", tmp_path / stamps.CACHE
    path.write_bytes(b"1")
    planned = Stamps(cache).samples([path])
    path.write_bytes(b"22")
    assert Stamps(cache, trusted=True).samples([path]) == planned
    assert Stamps(cache).known_sample(path) == planned[0]
    assert counted == ["a.svs"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sample": {"a": 1}, "sha256": {}}', "[[[["])
def test_a_damaged_cache_is_an_empty_one(tmp_path: Path, text: str) -> None:
    path, cache = tmp_path / "a.csv", tmp_path / stamps.CACHE
    path.write_text("a")
    cache.write_text(text)
    assert Stamps(cache).contents([path, tmp_path / "none"]) == [sha256sum(path), MISSING]
    assert json.loads(cache.read_text())["sha256"]["a.csv"][4] == sha256sum(path)


def test_slides_of_several_files(tmp_path: Path) -> None:
    mirax, folder = tmp_path / "m.mrxs", tmp_path / "m"
    folder.mkdir()
    mirax.write_bytes(b"m")
    (folder / "Data0000.dat").write_bytes(b"1")
    dicom = tmp_path / "d"
    dicom.mkdir()
    (dicom / "1.dcm").write_bytes(b"1")
    before = slide_stamp(mirax), slide_stamp(dicom)
    assert Stamps(tmp_path / "cache").samples([mirax, dicom]) == list(before)
    (folder / "Data0000.dat").write_bytes(b"2")
    (dicom / "2.dcm").write_bytes(b"2")
    after = slide_stamp(mirax), slide_stamp(dicom)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert slide_stamp(tmp_path / "none.svs") == MISSING


def test_the_cache_is_beside_the_inputs_unless_nothing_can_be_written(tmp_path: Path) -> None:
    assert cache_of(tmp_path, Path("else")) == tmp_path / stamps.CACHE
    elsewhere = [cache_of(tmp_path / name, Path("else")) for name in ("a", "b")]
    assert {path.parent for path in elsewhere} == {Path("else")}
    assert elsewhere[0] != elsewhere[1]
