"""Arrays and metadata of safetensors come back; the same content has the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from slide2rna.core.errors import StageError
from slide2rna.storage import tensors

ARRAYS = {"b": np.arange(6.0).reshape(2, 3), "a": np.ones(4, np.float32)}
FACTS = {name: "µ" * number for number, name in enumerate("zyxwvu")}


def test_one_form_that_other_programs_read(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        tensors.write(save_file, ARRAYS, tmp_path / name, FACTS)
    assert len({(tmp_path / name).read_bytes() for name in "123"}) == 1
    arrays, facts = tensors.read_all(tmp_path / "1")
    assert facts == FACTS
    for read in (arrays, load_file(tmp_path / "1")):
        assert all(np.array_equal(read[name], ARRAYS[name]) for name in ARRAYS)


def test_a_changed_shape_in_the_header_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors.write(save_file, ARRAYS, path)
    path.write_bytes(path.read_bytes().replace(b"[2,3]", b"[3,2]"))
    assert load_file(path)["b"].shape == (3, 2)
    with pytest.raises(StageError, match="damaged or edited"):
        tensors.read_all(path)
