"""Random bit flips in the files of a run: each must be noticed, or change nothing that is read."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from slide2rna.core import files
from slide2rna.core.errors import UserError
from slide2rna.features import feature_file
from slide2rna.operations import verify
from slide2rna.sampling import draw_store
from slide2rna.storage import parquet, split_file, tensors

ARRAYS = ("features", "coords")
KINDS = (".parquet", ".h5", ".safetensors", ".json", ".tsv", ".sha256", ".zarr")
NOTICED, HARMLESS, WRONG = "noticed", "harmless", "wrong accepted"


def entries(folder: Path) -> dict[str, list[Path]]:
    """The files of each kind below a folder; of tables as text, only the folds."""
    found: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for path in sorted(folder.rglob("*")):
        if any(parent.suffix == ".zarr" for parent in path.parents):
            continue
        if path.suffix == ".tsv" and path.name != "splits.tsv":
            continue
        if path.suffix in found and (path.is_file() or path.suffix == ".zarr"):
            found[path.suffix].append(path)
    return found


def content(path: Path) -> Any:
    """What a later stage reads of a file, as text or bytes that can be compared."""
    if path.suffix == ".parquet":
        table = parquet.read(path)
        return table.schema, table.to_dicts().__repr__()
    if path.suffix == ".h5":
        level = "slide" if feature_file.read_attributes(path).get("feat_type") else "tile"
        read = feature_file.read(path, level)
        arrays = [getattr(read, name).tolist() for name in ARRAYS]
        return arrays, read.unit, read.encoder, read.mpp
    if path.suffix == ".safetensors":
        arrays, metadata = tensors.read_all(path)
        return {name: (array.shape, array.tobytes()) for name, array in arrays.items()}, metadata
    if path.suffix == ".json":
        return files.read_json(path)
    if path.suffix == ".zarr":
        group = draw_store.open_draws(path)
        with draw_store.reading(path):
            arrays = {name: np.asarray(group[name][:]) for name in draw_store.array_names(path)}
        facts = {name: (array.shape, array.tobytes()) for name, array in arrays.items()}
        return facts, {name: group.attrs[name] for name in group.attrs if name != "seal"}
    table = path if path.suffix == ".tsv" else path.with_suffix("")
    return split_file.read(table).to_dicts()


def try_flip(path: Path, draw: random.Random) -> str:
    """Flip a random bit of a file, or of a file in a draws folder, and put it back."""
    expected = content(path)
    inside = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    hit = draw.choice(inside)
    before = hit.read_bytes()
    after = bytearray(before)
    position = draw.randrange(8 * len(after))
    after[position // 8] ^= 1 << position % 8
    hit.write_bytes(after)
    try:
        verify.check_entry(path if path.suffix != ".tsv" else split_file.digest_path(path))
        return HARMLESS if content(path) == expected else f"{WRONG}: {hit}, bit {position}"
    except UserError:
        return NOTICED
    finally:
        hit.write_bytes(before)


def try_flips(folder: Path, count: int, seed: int, kinds: Sequence[str] = KINDS) -> Counter[str]:
    """Flip bits in files of each kind in turn; the outcomes, `WRONG` with the place of each."""
    draw, found = random.Random(seed), entries(folder)
    outcomes: Counter[str] = Counter()
    for number in range(count):
        kind = kinds[number % len(kinds)]
        outcome = try_flip(draw.choice(found[kind]), draw)
        outcomes[outcome if outcome.startswith(WRONG) else f"{kind} {outcome}"] += 1
    return outcomes


def wrong(outcomes: Counter[str]) -> list[str]:
    return [outcome for outcome in outcomes if outcome.startswith(WRONG)]
