"""The fold models of one cohort as one model for the slides of another.

Points are averaged over fold models and slides. Draws are pooled as a mixture in which every fold
model and slide has the same share; they are never averaged draw by draw, since the mean of draws
is narrower than any of the laws that they come from.
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

    `test` has a row per slide and fold model, slide by slide, so that whatever pools the slides of
    a sample pools the fold models too, in equal shares.

    Attributes
    ----------
    members : per fold model, its file with the cohort's own slides as `test`.
    columns : (G,) the scored genes among those of the models.
    """

    members: tuple[Fold, ...]
    columns: NDArray[np.int64]

    def has(self, name: str) -> bool:
        """Whether every fold model's file holds this array."""
        return all(member.has(name) for member in self.members)

    def slide_rows(self, name: str, part: Part) -> NDArray[np.float32]:
        """An array of `test`, the only part that is predicted: a row per slide and fold model."""
        if part is not self.test:
            raise ValueError("fold models of another cohort predict the test part alone")
        count = len(self.members)
        out = np.empty((len(part.slide_ids), len(self.columns)), np.float32)
        for index, member in enumerate(self.members):
            out[index::count] = member.slide_rows(name, member.test)[:, self.columns]
        return out

    @property
    def pool_size(self) -> int:
        """Draws of a slide, over all fold models."""
        return sum(member.array("draws").shape[1] for member in self.members)

    def test_draws(self) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Yield (row of the sample, its draws (slides * F, D, G)), a sample in memory at a time."""
        for of_members in zip(*(member.test_draws() for member in self.members), strict=True):
            row = of_members[0][0]
            raw = np.stack([draws[:, :, self.columns] for _, draws in of_members], axis=1)
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
        The cohort that is predicted, with the scored genes.
    paths
        A file per fold model, in any order.
    genes
        Of the models.
    train, val
        Of the cohort that they were trained on, with the scored genes.

    Raises
    ------
    StageError
        Files of other genes or slides, or with different numbers of draws.
    """
    opened = [(path, *folds.open_store(path, genes)) for path in paths]
    opened.sort(key=lambda item: int(str(item[1].attrs["fold"])))
    numbers = [int(str(store.attrs["fold"])) for _, store, _ in opened]
    path, _, rows = opened[0]
    for other, _, theirs in opened[1:]:
        if theirs.keys() != rows.keys():
            raise StageError(other, f"its slides differ from those of {path}", "sample anew")
    drawn = cohort.slides.filter(cohort.slides["slide_id"].is_in(list(rows)))
    own = patients.part_of(cohort, drawn)
    nobody = patients.part_of(cohort, drawn.clear())
    members = tuple(
        Fold(number, train, val, nobody, own, path, store, rows)
        for number, (path, store, rows) in zip(numbers, opened, strict=True)
    )
    _check_shares(members)
    position = {gene: index for index, gene in enumerate(genes)}
    return Ensemble(
        number=0,
        train=train,
        val=val,
        cal=nobody,
        test=repeated(own, len(members)),
        path=path,
        store=opened[0][1],
        rows={},
        members=members,
        columns=np.array([position[gene] for gene in cohort.genes], dtype=np.int64),
    )


def repeated(part: Part, times: int) -> Part:
    """A part whose slides are there `times` times, one after the other, in equal shares."""

    def each(values: Sequence) -> list:  # type: ignore[type-arg]
        return [value for value in values for _ in range(times)]

    return replace(
        part,
        slide_ids=each(part.slide_ids),
        sites=each(part.sites),
        bag_rows=np.repeat(part.bag_rows, times),
        pool=np.repeat(part.pool, times, axis=1) / np.float32(times),
    )


def _check_shares(members: Sequence[Fold]) -> None:
    """With other numbers of draws, fold models wouldn't have equal shares of the pool."""
    drawn = [member.has("draws") for member in members]
    if not any(drawn):
        return
    sizes = [_draws(member.store) for member in members]
    if not all(drawn) or len(set(sizes)) > 1:
        cause = f"fold models with {sizes} draws per slide"
        raise StageError(members[0].path, cause, "sample all of them with the same settings")


def _draws(store: zarr.Group) -> int:
    found = store.get("draws")
    return found.shape[1] if isinstance(found, zarr.Array) else 0
