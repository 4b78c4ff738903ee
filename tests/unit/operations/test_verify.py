"""Damage of any kind of file is noticed where the file is read, and `slide2rna verify` names it."""

from __future__ import annotations

from pathlib import Path

import bit_flips
import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file
from slide2rna.commands.verify import main
from slide2rna.core import files
from slide2rna.core.errors import StageError
from slide2rna.features import feature_file
from slide2rna.operations import verify
from slide2rna.sampling.draw_file import DrawFile
from slide2rna.storage import parquet, split_file, tensors

FLIPS = 42


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small file of each kind, written by the writers of the stages."""
    out = tmp_path / "run"
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"sample_id": ["P1", "P2"], "A.1": [1.5, None], "n": [[1], [2, 3]]})
    parquet.write(table, out / "expression.parquet")
    split_file.write(
        pl.DataFrame({"unit": ["P1", "P2"], "fold": [0, 0], "part": ["train", "test"]}),
        out / "splits.tsv",
    )
    files.write_json({"name": "mine", "genes": ["A.1"]}, out / "cohort.json")
    values = rng.normal(size=(5, 3)).astype(np.float32)
    tiles = feature_file.Features(values, np.arange(10).reshape(5, 2), None)
    feature_file.write(out / "features" / "S1.h5", tiles, {"key": "k", "encoder": "e"})
    tensors.write(save_file, {"a": values, "b": values[0]}, out / "bags.safetensors", {"k": "5"})
    draws = DrawFile(out / "draws.zarr", (2, 3, 4), True, "key")
    for row in range(2):
        draws.write_draws(row, 0, rng.normal(size=(3, 4)))
        arrays = {name: rng.normal(size=4) for name in ("point", "point_spread", "mean", "sd")}
        draws.write(row, f"S{row}", arrays)
    draws.finish({"fold": 0, "genes": ["A", "B", "C", "D"]})
    return out


def test_a_flipped_bit_is_noticed_or_harmless(folder: Path) -> None:
    outcomes = bit_flips.try_flips(folder, FLIPS, seed=3)
    assert not bit_flips.wrong(outcomes)
    for kind in bit_flips.KINDS:
        assert outcomes[f"{kind} {bit_flips.NOTICED}"] > 0


def test_verify_names_each_damaged_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "report.html").write_text("a page")
    main([str(folder)])
    assert "0 damaged" in (out := capsys.readouterr().out)
    assert "1 files have no checksum: 1 .html" in out
    chunk = next(path for path in sorted(folder.rglob("c/*/*")) if path.is_file())
    chunk.unlink()
    for name in ("expression.parquet", "features/S1.h5", "splits.tsv"):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 4
        (folder / name).write_bytes(content)
    (folder / "cohort.json").write_bytes((folder / "cohort.json").read_bytes()[:9])
    with pytest.raises(SystemExit) as stopped:
        main([str(folder)])
    assert stopped.value.code == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("damaged")]
    names = ("cohort.json", "draws.zarr", "expression.parquet", "S1.h5", "splits.tsv")
    assert len(lines) == len(names)
    assert all(any(name in line for line in lines) for name in names)


def test_unfinished_and_foreign_files_are_no_damage(folder: Path) -> None:
    before = verify.verify(folder).intact
    (folder / ".cohort.abcdefgh.partial.json").write_text("{")
    (folder / "own.json").write_text('{"a": 1}')
    pl.DataFrame({"a": [1]}).write_parquet(folder / "own.parquet")
    save_file({"a": np.zeros(2)}, folder / "own.safetensors")
    verdict = verify.verify(folder)
    assert verdict.damaged == []
    assert verdict.intact == before + 1  # a table can be checked page by page
    assert verdict.unchecked == {".json": 1, ".safetensors": 1}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no such folder"):
        verify.verify(tmp_path / "absent")
