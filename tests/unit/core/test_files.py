"""Files are whole or not there; random streams depend on names, not on order."""

from __future__ import annotations

import hashlib
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slide2rna.core import files, seeds

NAMES = st.text(min_size=1, max_size=20)


def test_atomic_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    files.write_text("old", path)

    def fail_half_way() -> None:
        with files.atomic(path) as partial:
            partial.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_keeps_the_suffix_and_gives_ordinary_rights(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "a.parquet") as partial:
        assert partial.suffix == ".parquet"
        assert partial.parent == tmp_path
        partial.write_text("x")
    assert stat.S_IMODE((tmp_path / "a.parquet").stat().st_mode) & stat.S_IRUSR
    (tmp_path / "plain").write_text("x")
    plain = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "a.parquet").stat().st_mode) == plain


def test_json_has_one_form(tmp_path: Path) -> None:
    files.write_json({"b": 1, "a": "µm"}, tmp_path / "1.json")
    files.write_json({"a": "µm", "b": 1}, tmp_path / "2.json")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert files.read_json(tmp_path / "1.json") == {"a": "µm", "b": 1}


@given(data=st.binary(max_size=1000))
def test_checksums(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "sum"
    path.write_bytes(data)
    assert files.md5sum(path) == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert files.sha256sum(path) == hashlib.sha256(data).hexdigest()


def test_seeds_are_fixed_for_good() -> None:
    # Changing these would change every published result.
    assert seeds.seed_for(1, "folds", "P1") == 6250031892744907709
    assert seeds.shard_of("S1", 64) == 21


@given(seed=st.integers(0, 2**40), names=st.lists(NAMES, min_size=1, max_size=3))
def test_seeds_depend_on_each_name(seed: int, names: list[str]) -> None:
    value = seeds.seed_for(seed, *names)
    assert 0 <= value < 2**63
    assert value == seeds.seed_for(seed, *names)
    assert value != seeds.seed_for(seed + 1, *names)
    assert value != seeds.seed_for(seed, *names, "more")
    first, second = (seeds.rng_for(seed, *names).integers(2**60) for _ in range(2))
    assert first == second


@given(name=NAMES, shards=st.integers(1, 100))
def test_shards_are_in_range(name: str, shards: int) -> None:
    assert 0 <= seeds.shard_of(name, shards) < shards


def test_shards_are_about_even() -> None:
    counts = [0] * 8
    for number in range(4000):
        counts[seeds.shard_of(f"TCGA-{number}", 8)] += 1
    assert min(counts) > 400
    assert max(counts) < 600


def test_leftovers_of_killed_runs_go_and_those_of_others_stay(tmp_path: Path) -> None:
    files.sweep()
    ours = [".a.abcd_123.partial.json", ".a.b.00000000.partial.tar", ".plain.abcdefgh.partial"]
    others = [
        *(".c.abcd1234.partial.json", ".a.abcd1234.partial.txt", ".a.short.partial.json"),
        *("a.json.partial", "fold-0.zarr.partial"),
    ]
    for name in (*ours, *others):
        (tmp_path / name).touch()
    for name in ("a.json", "a.b.tar", "plain"):
        files.write_text("whole", tmp_path / name)
    with tempfile.TemporaryDirectory() as gone:
        files.write_text("", Path(gone) / "a.json")
    files.sweep()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.json", "a.b.tar", "plain", *others}
    (tmp_path / ours[0]).touch()
    files.sweep()  # nothing was written since
    assert (tmp_path / ours[0]).exists()
