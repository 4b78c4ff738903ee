"""Folds of a run: the parts of each, and a model's points and draws for them.

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

from slide2rna.core.errors import StageError, list_names
from slide2rna.data.patients import Cohort, Part, make_part
from slide2rna.sampling import draw_store

PARTS = ("train", "val", "cal", "test")


# NaN for a point that is made once, without noise.
SPREAD = "point_spread"


@dataclass(frozen=True)
class Fold:
    """Parts of a fold, and the file with one model's points and draws of val, cal and test.

    `cal` may be empty: only conformal intervals and p values need it.

    Attributes
    ----------
    rows : row of each slide in the file.
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
        """CFG scale of the draws; 1 without draws."""
        return float(str(self.store.attrs.get("guidance", 1.0)))

    @property
    def pool_size(self) -> int:
        """Number of draws per slide."""
        return int(self.array("draws").shape[1])

    def has(self, name: str) -> bool:
        """Return True if the file holds this array; without draws it holds points only."""
        return name in self.store

    def slide_rows(self, name: str, part: Part) -> NDArray[np.float32]:
        """Read an array by slide (S, G), in the part's order."""
        array = self.array(name)
        if not part.slide_ids:
            return np.empty((0, *array.shape[1:]), np.float32)
        rows = np.array([self.rows[slide] for slide in part.slide_ids])
        with draw_store.reading(self.path):
            values = np.asarray(array.oindex[rows], dtype=np.float32)
        if name != SPREAD:
            broken = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
            self._raise_for([part.slide_ids[row] for row in broken])
        return values

    def _raise_for(self, slides: Sequence[str]) -> None:
        """Raise an error for slides with values that aren't finite: zarr reads a lost file so."""
        if slides:
            cause = f"values of {list_names(slides)} are missing or damaged"
            raise StageError(self.path, cause, draw_store.REMEDY)

    def read(self, name: str, part: Part) -> NDArray[np.float32]:
        """Read an array by slide (S, G), averaged to samples (n, G)."""
        return np.asarray(part.average(self.slide_rows(name, part)), dtype=np.float32)

    def mixture(self, part: Part) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and sd (n, G) of each sample's mixture: its slides' draws in equal shares."""
        mean, sd = (self.slide_rows(name, part) for name in ("mean", "sd"))
        centre = np.asarray(part.average(mean))
        between = mean - part.spread(centre)
        return centre, np.sqrt(part.average(sd**2 + between**2))

    def array(self, name: str) -> zarr.Array:
        """Open an array of the draws file.

        Raises
        ------
        StageError
            The file has no such array.
        """
        stored = self.store.get(name)
        if not isinstance(stored, zarr.Array):
            raise StageError(self.path, f"no array '{name}'", "rerun sampling for this fold")
        return stored

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
                    with draw_store.reading(self.path):
                        block = np.asarray(array[start : start + step])
                parts.append(block[index - start])
                if not np.isfinite(parts[-1]).all():
                    self._raise_for([self.test.slide_ids[column]])
            yield row, np.stack(parts)


def load_fold(cohort: Cohort, path: str | Path) -> Fold:
    """Load a fold: the slides of its parts with bags and a measured sample, and the draws file.

    Raises
    ------
    StageError
        The draws have other genes, a part is empty, or a slide is in another part there.
    """
    path = Path(path)
    store, rows = open_store(path, cohort.genes)
    number = int(str(store.attrs["fold"]))
    parts = {
        name: _make_part(cohort, number, name, None if name == "train" else rows) for name in PARTS
    }
    empty = [name for name, part in parts.items() if not part.samples and name != "cal"]
    if empty:
        raise StageError(
            path, f"no measured sample in part {' and '.join(empty)}", "use fewer folds"
        )
    fold = Fold(number=number, path=path, store=store, rows=rows, **parts)
    _check_parts(fold)
    return fold


def attach(fold: Fold, path: str | Path, genes: Sequence[str]) -> Fold:
    """Return the fold with another model's points and draws on the same parts.

    Raises
    ------
    StageError
        The file has other genes, lacks slides, or has a slide in another part.
    """
    path = Path(path)
    store, rows = open_store(path, genes)
    missing = [s for part in (fold.val, fold.test) for s in part.slide_ids if s not in rows]
    if missing:
        raise StageError(
            path,
            f"slides of {model_of(fold.path)} failed in this run and are missing here: "
            f"{list_names(missing)}",
            "fix these slides or remove them from the cohort; with a lower max_failed_slides "
            "the run stops and names the reason",
        )
    attached = replace(fold, path=path, store=store, rows=rows)
    _check_parts(attached)
    return attached


def read_genes(path: str | Path) -> list[str]:
    """Read the genes of a draws file, in its order."""
    return _read_strings(draw_store.open_draws(path), "genes")


def model_of(path: str | Path) -> str:
    """Read the label of the model that drew this file."""
    label = draw_store.open_draws(path).attrs.get("model")
    if label is None:
        raise StageError(path, "the name of its model is missing", "rerun sampling for this fold")
    return str(label)


def fold_of(path: str | Path) -> int:
    """Read the number of the fold of a draws file."""
    return int(str(draw_store.open_draws(path).attrs["fold"]))


def open_store(path: Path, genes: Sequence[str]) -> tuple[zarr.Group, dict[str, int]]:
    """Open a draws file, and index the row of each of its slides.

    Raises
    ------
    StageError
        The file has other genes.
    """
    store = draw_store.open_draws(path)
    if _read_strings(store, "genes") != list(genes):
        cause = "its genes differ from those of the other folds"
        raise StageError(path, cause, "rerun sampling for all folds")
    return store, {slide: index for index, slide in enumerate(_read_strings(store, "slide_ids"))}


def _check_parts(fold: Fold) -> None:
    stored = dict(zip(fold.rows, _read_strings(fold.store, "parts"), strict=True))
    for name, part in (("val", fold.val), ("cal", fold.cal), ("test", fold.test)):
        for slide in part.slide_ids:
            # Another model's file may lack slides of cal: only the evaluated model's are read.
            if stored.get(slide, name) != name:
                raise StageError(
                    fold.path,
                    f"slide {slide} is '{stored[slide]}' here and '{name}' in the splits",
                    "rerun sampling for this fold",
                )


def _read_strings(store: zarr.Group, name: str) -> list[str]:
    value = store.attrs[name]
    return json.loads(value) if isinstance(value, str) else list(value)  # type: ignore[arg-type]


def _make_part(cohort: Cohort, fold: int, part: str, drawn: dict[str, int] | None) -> Part:
    units = cohort.splits.filter((pl.col("fold") == fold) & (pl.col("part") == part))["unit"]
    slides = cohort.slides.filter(pl.col("unit").is_in(units.implode()))
    if drawn is not None:
        slides = slides.filter(pl.col("slide_id").is_in(list(drawn)))
    return make_part(cohort, slides)
