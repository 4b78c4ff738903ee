"""One fold of a run: its parts, and a model's points and draws for them.

Slides of one sample count as one: their points are averaged, and their draws pooled as a mixture
in equal shares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import zarr
from numpy.typing import NDArray

from slide2rna.core.errors import StageError, listing
from slide2rna.data.patients import Cohort, Part, part_of

PARTS = ("train", "val", "cal", "test")


@dataclass(frozen=True)
class Fold:
    """The parts of a fold, and the file with one model's points and draws of val, cal and test.

    `cal` may be empty: nothing but conformal intervals and p values needs it.
    """

    number: int
    train: Part
    val: Part
    cal: Part
    test: Part
    path: Path
    store: zarr.Group
    rows: dict[str, int]

    @property
    def guidance(self) -> float:
        """CFG scale of the draws; 1 where there are none."""
        return float(str(self.store.attrs.get("guidance", 1.0)))

    @property
    def pool_size(self) -> int:
        """Draws of a slide."""
        return int(self.array("draws").shape[1])

    def has(self, name: str) -> bool:
        """Whether the file holds this array; points alone have neither draws nor their spread."""
        return name in self.store

    def slide_rows(self, name: str, part: Part) -> NDArray[np.float32]:
        """An array of slide rows (S, G), in the part's order."""
        array = self.array(name)
        if not part.slide_ids:
            return np.empty((0, *array.shape[1:]), np.float32)
        rows = np.array([self.rows[slide] for slide in part.slide_ids])
        return np.asarray(array.oindex[rows], dtype=np.float32)

    def read(self, name: str, part: Part) -> NDArray[np.float32]:
        """An array of slide rows (S, G), averaged to samples (n, G)."""
        return np.asarray(part.average(self.slide_rows(name, part)), dtype=np.float32)

    def mixture(self, part: Part) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and sd (n, G) of each sample's law: its slides' draws in equal shares."""
        mean, sd = (self.slide_rows(name, part) for name in ("mean", "sd"))
        centre = np.asarray(part.average(mean))
        between = mean - part.spread(centre)
        return centre, np.sqrt(part.average(sd**2 + between**2))

    def array(self, name: str) -> zarr.Array:
        """An array of the draws file.

        Raises
        ------
        StageError
            It isn't there.
        """
        found = self.store.get(name)
        if not isinstance(found, zarr.Array):
            raise StageError(self.path, f"no array '{name}'", "sample this fold anew")
        return found

    def test_draws(self) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Yield (row of the sample, its draws (slides, D, G)), a few slides in memory at a time."""
        array = self.array("draws")
        step, start = array.chunks[0], -1
        block = np.empty(0, dtype=np.float16)
        for row in range(len(self.test.samples)):
            parts = []
            for column in np.flatnonzero(self.test.pool[row]):
                index = self.rows[self.test.slide_ids[column]]
                if start < 0 or not start <= index < start + step:
                    start = index - index % step
                    block = np.asarray(array[start : start + step])
                parts.append(block[index - start])
            yield row, np.stack(parts)


def load_fold(cohort: Cohort, path: str | Path) -> Fold:
    """The parts of a fold that have bags and a measured sample, with its draws.

    Raises
    ------
    StageError
        The draws are of other genes, or a slide of val or test lies in another part.
    """
    path = Path(path)
    store, rows = open_store(path, cohort.genes)
    number = int(str(store.attrs["fold"]))
    parts = {name: _part(cohort, number, name, None if name == "train" else rows) for name in PARTS}
    empty = [name for name, part in parts.items() if not part.samples and name != "cal"]
    if empty:
        raise StageError(
            path, f"no measured sample in part {' and '.join(empty)}", "use fewer folds"
        )
    found = Fold(number=number, path=path, store=store, rows=rows, **parts)
    _check_parts(found)
    return found


def attach(fold: Fold, path: str | Path, genes: Sequence[str]) -> Fold:
    """The same parts with another model's points and draws.

    Raises
    ------
    StageError
        The file is of other genes, lacks slides, or has a slide in another part.
    """
    path = Path(path)
    store, rows = open_store(path, genes)
    missing = [s for part in (fold.val, fold.test) for s in part.slide_ids if s not in rows]
    if missing:
        raise StageError(
            path,
            f"slides of {model_of(fold.path)} are missing here, they failed in this run: "
            f"{listing(missing)}",
            "mend these slides or take them out of the cohort; with a lower max_failed_slides "
            "the run stops at them and says why",
        )
    found = replace(fold, path=path, store=store, rows=rows)
    _check_parts(found)
    return found


def read_genes(path: str | Path) -> list[str]:
    """Gene order of a draws file."""
    return _strings(zarr.open_group(path, mode="r"), "genes")


def model_of(path: str | Path) -> str:
    """Label of the model that a draws file is of."""
    found = zarr.open_group(path, mode="r").attrs.get("model")
    if found is None:
        raise StageError(path, "it doesn't name its model", "sample this fold anew")
    return str(found)


def fold_of(path: str | Path) -> int:
    """Number of the fold that a draws file is of."""
    return int(str(zarr.open_group(path, mode="r").attrs["fold"]))


def open_store(path: Path, genes: Sequence[str]) -> tuple[zarr.Group, dict[str, int]]:
    """A draws file, and the row of each of its slides.

    Raises
    ------
    StageError
        It is of other genes.
    """
    store = zarr.open_group(path, mode="r")
    if _strings(store, "genes") != list(genes):
        raise StageError(path, "its genes differ from the other folds'", "sample all folds anew")
    return store, {slide: index for index, slide in enumerate(_strings(store, "slide_ids"))}


def _check_parts(fold: Fold) -> None:
    stored = dict(zip(fold.rows, _strings(fold.store, "parts"), strict=True))
    for name, part in (("val", fold.val), ("cal", fold.cal), ("test", fold.test)):
        for slide in part.slide_ids:
            # Another model's file may lack slides of cal, where only the evaluated one is used.
            if stored.get(slide, name) != name:
                raise StageError(
                    fold.path,
                    f"slide {slide} is '{stored[slide]}' here and '{name}' in the splits",
                    "sample this fold anew",
                )


def _strings(store: zarr.Group, name: str) -> list[str]:
    value = store.attrs[name]
    return json.loads(value) if isinstance(value, str) else list(value)  # type: ignore[arg-type]


def _part(cohort: Cohort, fold: int, part: str, drawn: dict[str, int] | None) -> Part:
    units = cohort.splits.filter((pl.col("fold") == fold) & (pl.col("part") == part))["unit"]
    slides = cohort.slides.filter(pl.col("unit").is_in(units.implode()))
    if drawn is not None:
        slides = slides.filter(pl.col("slide_id").is_in(list(drawn)))
    return part_of(cohort, slides)
