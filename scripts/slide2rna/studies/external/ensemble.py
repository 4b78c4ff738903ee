"""Ensemble of the fold models of one cohort, applied to the slides of another.

Points are averaged over fold models and slides. Draws are pooled as a mixture in which every fold
model and slide has the same share; they are never averaged draw by draw, since the mean of draws
has a narrower distribution than any fold model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from slide2rna.core.errors import StageError
from slide2rna.data import patients
from slide2rna.data.patients import Part
from slide2rna.evaluation.scoring import folds
from slide2rna.evaluation.scoring.folds import Fold


@dataclass(frozen=True)
class Ensemble(Fold):
    """F fold models on the slides of a cohort that none of them has seen.

    `test` has a row per slide and fold model, slide by slide, so that pooling the slides of a
    sample also pools the fold models, in equal shares.

    Attributes
    ----------
    members : per fold model, its file with the cohort's slides as `test`.
    columns : (G,) indices of the scored genes among those of the models.
    """

    members: tuple[Fold, ...]
    columns: NDArray[np.int64]

    def has(self, name: str) -> bool:
        """Return True if every fold model's file holds this array."""
        return all(member.has(name) for member in self.members)

    def slide_rows(self, name: str, part: Part) -> NDArray[np.float32]:
        """Read an array of `test`, the only predicted part: a row per slide and fold model."""
        if part is not self.test:
            raise ValueError("fold models of another cohort predict only the test part")
        count = len(self.members)
        out = np.empty((len(part.slide_ids), len(self.columns)), np.float32)
        for index, member in enumerate(self.members):
            out[index::count] = member.slide_rows(name, member.test)[:, self.columns]
        return out

    @property
    def pool_size(self) -> int:
        """Number of draws per slide, over all fold models."""
        return sum(member.array("draws").shape[1] for member in self.members)

    def test_draws(self) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Yield (row of the sample, its draws (slides * F, D, G)), a sample in memory at a time."""
        for member_draws in zip(*(member.test_draws() for member in self.members), strict=True):
            row = member_draws[0][0]
            raw = np.stack([draws[:, :, self.columns] for _, draws in member_draws], axis=1)
            yield row, raw.reshape(-1, *raw.shape[2:])


def load(
    cohort: patients.Cohort,
    paths: Sequence[Path],
    genes: Sequence[str],
    train: Part,
    val: Part,
) -> Ensemble:
    """Open the draws of all fold models for a cohort's slides.

    Parameters
    ----------
    cohort
        The predicted cohort, with the scored genes.
    paths
        A file per fold model, in any order.
    genes
        Of the models.
    train, val
        Parts of the training cohort, with the scored genes.

    Raises
    ------
    StageError
        Files of other genes or slides, or with different numbers of draws.
    """
    opened = [(path, *folds.open_store(path, genes)) for path in paths]
    opened.sort(key=lambda item: int(str(item[1].attrs["fold"])))
    numbers = [int(str(store.attrs["fold"])) for _, store, _ in opened]
    path, _, rows = opened[0]
    for other, _, other_rows in opened[1:]:
        if other_rows.keys() != rows.keys():
            raise StageError(other, f"its slides differ from those of {path}", "rerun sampling")
    predicted = cohort.slides.filter(cohort.slides["slide_id"].is_in(list(rows)))
    test = patients.make_part(cohort, predicted)
    empty = patients.make_part(cohort, predicted.clear())
    members = tuple(
        Fold(number, train, val, empty, test, path, store, rows)
        for number, (path, store, rows) in zip(numbers, opened, strict=True)
    )
    _check_draw_counts(members)
    gene_index = {gene: index for index, gene in enumerate(genes)}
    return Ensemble(
        number=0,
        train=train,
        val=val,
        cal=empty,
        test=repeat_slides(test, len(members)),
        path=path,
        store=opened[0][1],
        rows={},
        members=members,
        columns=np.array([gene_index[gene] for gene in cohort.genes], dtype=np.int64),
    )


def repeat_slides(part: Part, times: int) -> Part:
    """Repeat each slide of a part `times` times in consecutive rows, in equal shares."""

    def repeat(values: Sequence) -> list:  # type: ignore[type-arg]
        return [value for value in values for _ in range(times)]

    return replace(
        part,
        slide_ids=repeat(part.slide_ids),
        sites=repeat(part.sites),
        bag_rows=np.repeat(part.bag_rows, times),
        pool=np.repeat(part.pool, times, axis=1) / np.float32(times),
    )


def _check_draw_counts(members: Sequence[Fold]) -> None:
    """Require equal numbers of draws: otherwise fold models have unequal shares of the pool."""
    has_draws = [member.has("draws") for member in members]
    if not any(has_draws):
        return
    sizes = [_draw_count(member.store) for member in members]
    if not all(has_draws) or len(set(sizes)) > 1:
        cause = f"fold models with {sizes} draws per slide"
        raise StageError(members[0].path, cause, "sample all of them with the same settings")


def _draw_count(store: zarr.Group) -> int:
    draws = store.get("draws")
    return draws.shape[1] if isinstance(draws, zarr.Array) else 0
