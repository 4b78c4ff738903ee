"""From slides to patients: truth, points and draws of a fold, a row per scored sample.

A sample is a row of the expression table: a patient in ordinary cohorts, a region where the
cohort's split unit lies below the patient. Slides of one sample count as one: their points are
averaged, and their draws pooled as a mixture in equal shares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import zarr
from numpy.typing import NDArray

from slide2rna import bags, io
from slide2rna.errors import StageError

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Cohort:
    """What doesn't depend on the fold.

    Attributes
    ----------
    genes : gene names, G of them.
    truth : (N, G) float32 measured log2(x+1); `row` gives a sample's row.
    slides : slide_id, patient_id, sample_id, unit, site; only slides whose sample was measured.
    splits : unit, fold, part.
    info : cohort.json.
    """

    genes: list[str]
    truth: NDArray[np.float32]
    row: dict[str, int]
    slides: pl.DataFrame
    splits: pl.DataFrame
    bags: bags.Bags
    info: dict


@dataclass(frozen=True)
class Part:
    """The slides of one part of a fold and their samples.

    Attributes
    ----------
    slide_ids : S slides.
    sites : (S,) site per slide, or None.
    bag_rows : (S,) rows in the bags.
    samples : n sample names, sorted.
    pool : (n, S) shares that average slides to samples; each row sums to 1.
    truth : (n, G) float32.
    """

    slide_ids: list[str]
    sites: list[str | None]
    bag_rows: NDArray[np.int64]
    samples: list[str]
    pool: NDArray[np.float32]
    truth: NDArray[np.float32]

    def slide_truth(self) -> NDArray[np.float32]:
        """Truth of each slide's sample (S, G)."""
        return self.truth[self.pool.argmax(axis=0)]

    def average(self, values: Array) -> Array:
        """Slide rows (S, ...) averaged to sample rows (n, ...)."""
        return self.pool @ values


@dataclass(frozen=True)
class Fold:
    """One fold: its parts, and the file with the draws of val, cal and test."""

    number: int
    train: Part
    val: Part
    test: Part
    path: Path
    store: zarr.Group
    rows: dict[str, int]

    def read(self, name: str, part: Part) -> NDArray[np.float32]:
        """An array of slide rows (S, G), averaged to samples (n, G)."""
        rows = np.array([self.rows[slide] for slide in part.slide_ids])
        values = np.asarray(self.array(name).oindex[rows])
        return np.asarray(part.average(values), dtype=np.float32)

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


def load_cohort(
    genes: Sequence[str],
    bag_path: Path,
    expression_path: Path,
    slides_path: Path,
    splits_path: Path,
    cohort_path: Path,
) -> Cohort:
    """Read what all folds share.

    Raises
    ------
    StageError
        The expression table lacks genes of the model, or no slide has a measured sample.
    """
    known = set(pl.read_parquet_schema(expression_path))
    missing = [gene for gene in genes if gene not in known]
    if missing:
        raise StageError(
            expression_path,
            f"{len(missing)} of the model's {len(genes)} genes are missing ({missing[0]} ...)",
            "evaluate with the expression table that the model was trained on",
        )
    table = pl.read_parquet(expression_path, columns=["sample_id", *genes])
    truth = table.drop("sample_id").to_numpy().astype(np.float32)
    measured = np.isfinite(truth).all(axis=1)
    names = [name for name, ok in zip(table["sample_id"], measured, strict=True) if ok]
    slides = pl.read_parquet(slides_path).filter(pl.col("sample_id").is_in(names))
    if slides.is_empty():
        raise StageError(
            slides_path, "no slide has measured expression", "check sample_id in both tables"
        )
    return Cohort(
        genes=list(genes),
        truth=truth[measured],
        row={name: index for index, name in enumerate(names)},
        slides=slides.sort("slide_id"),
        splits=pl.read_csv(splits_path, separator="\t", schema_overrides={"unit": pl.String}),
        bags=bags.load(bag_path),
        info=io.read_json(cohort_path),
    )


def load_fold(cohort: Cohort, path: str | Path) -> Fold:
    """The parts of a fold that have bags and a measured sample, with its draws.

    Raises
    ------
    StageError
        The draws are of other genes, or a slide of val or test lies in another part.
    """
    path = Path(path)
    store = zarr.open_group(path, mode="r")
    number = int(str(store.attrs["fold"]))
    if read_genes(path) != cohort.genes:
        raise StageError(path, "its genes differ from the other folds'", "sample all folds anew")
    rows = {str(slide): index for index, slide in enumerate(_strings(store, "slide_ids"))}
    stored = dict(zip(rows, _strings(store, "parts"), strict=True))
    parts = {}
    for name in ("train", "val", "test"):
        parts[name] = _part(cohort, number, name, None if name == "train" else rows)
        for slide in parts[name].slide_ids if name != "train" else []:
            if stored[slide] != name:
                raise StageError(
                    path,
                    f"slide {slide} is '{stored[slide]}' here and '{name}' in the splits",
                    "sample this fold anew",
                )
    empty = [name for name, part in parts.items() if not part.samples]
    if empty:
        raise StageError(
            path, f"no measured sample in part {' and '.join(empty)}", "use fewer folds"
        )
    return Fold(number=number, path=path, store=store, rows=rows, **parts)


def read_genes(path: str | Path) -> list[str]:
    """Gene order of a draws file."""
    return _strings(zarr.open_group(path, mode="r"), "genes")


def _strings(store: zarr.Group, name: str) -> list[str]:
    value = store.attrs[name]
    return json.loads(value) if isinstance(value, str) else list(value)  # type: ignore[arg-type]


def _part(cohort: Cohort, fold: int, part: str, drawn: dict[str, int] | None) -> Part:
    units = cohort.splits.filter((pl.col("fold") == fold) & (pl.col("part") == part))["unit"]
    in_bags = {slide: row for row, slide in enumerate(cohort.bags.slide_ids)}
    usable = [slide for slide in in_bags if drawn is None or slide in drawn]
    slides = cohort.slides.filter(
        pl.col("unit").is_in(units.implode()) & pl.col("slide_id").is_in(usable)
    )
    samples = sorted(set(slides["sample_id"]))
    position = {sample: index for index, sample in enumerate(samples)}
    pool = np.zeros((len(samples), slides.height), dtype=np.float32)
    for column, sample in enumerate(slides["sample_id"]):
        pool[position[sample], column] = 1.0
    pool /= np.maximum(pool.sum(axis=1, keepdims=True), 1.0)
    return Part(
        slide_ids=list(slides["slide_id"]),
        sites=list(slides["site"]),
        bag_rows=np.array([in_bags[slide] for slide in slides["slide_id"]], dtype=np.int64),
        samples=samples,
        pool=pool,
        truth=cohort.truth[[cohort.row[sample] for sample in samples]],
    )
