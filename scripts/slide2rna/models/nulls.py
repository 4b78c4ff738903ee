"""Null models: predictions without morphology, and a memoriser for the leak audit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slide2rna.core import seeds
from slide2rna.data.patients import Part
from slide2rna.models.base import FittedModel, Unavailable
from slide2rna.models.ridge import bag_mean, fit_tuned


def constant(train: Part, val: Part, seed: int, fold: int) -> FittedModel:
    """Predict the train mean, the reference for any error; val, seed and fold aren't used."""
    mean = train.truth.mean(axis=0, dtype=np.float64).astype(np.float32)

    def predict(part: Part) -> NDArray[np.float32]:
        return np.tile(mean, (len(part.slide_ids), 1))

    return FittedModel("mean of the train samples", predict)


def color_ridge(train: Part, val: Part, seed: int, fold: int) -> FittedModel:
    """Fit a ridge on colour statistics; seed and fold aren't used.

    Raises
    ------
    Unavailable
        Here or in `predict`: some slides have no colour statistics.
    """
    return fit_tuned(color, train, val, train.truth, val.truth)


def color(part: Part) -> NDArray[np.float64]:
    """Return the colour statistics of a part's slides (S, 6)."""
    values = part.bags.color[part.bag_rows].astype(np.float64)
    if not np.isfinite(values).all():
        raise Unavailable("slides without colour statistics in their features")
    return values


def permuted(train: Part, val: Part, seed: int, fold: int) -> FittedModel:
    """Fit a ridge from bag means to permuted profiles."""
    rng = seeds.rng_for(seed, "permuted", fold)
    shuffled = [part.truth[rng.permutation(len(part.samples))] for part in (train, val)]
    return fit_tuned(bag_mean(train), train, val, *shuffled)


def memoriser(train: Part, val: Part, seed: int, fold: int) -> FittedModel:
    """Memorise the train samples; val isn't used."""
    train_row = {sample: row for row, sample in enumerate(train.samples)}

    def predict(part: Part) -> NDArray[np.float32]:
        rows = []
        for column in part.pool.argmax(axis=0):
            sample = part.samples[column]
            rng = seeds.rng_for(seed, "memoriser", fold, sample)
            rows.append(
                train_row[sample] if sample in train_row else int(rng.integers(len(train_row)))
            )
        return train.truth[rows].astype(np.float32)

    return FittedModel(f"profiles of {len(train_row)} train samples, no image", predict)


def site_mean(train: Part, val: Part, seed: int, fold: int) -> FittedModel:
    """Predict the mean of a site's train samples; a site not in train gets the overall mean.

    Raises
    ------
    Unavailable
        Train has fewer than two sites.
    """
    train_sites = sorted({site for site in train.sites if site is not None})
    if len(train_sites) < 2:
        raise Unavailable("fewer than two sites among the train slides")
    overall = train.truth.mean(axis=0, dtype=np.float64)
    means = {}
    for site in train_sites:
        at_site = np.array([name == site for name in train.sites])
        samples = (train.pool[:, at_site] > 0).any(axis=1)
        means[site] = train.truth[samples].mean(axis=0, dtype=np.float64)

    def predict(part: Part) -> NDArray[np.float32]:
        rows = [means.get(site, overall) if site else overall for site in part.sites]
        return np.array(rows, dtype=np.float32)

    return FittedModel("mean of the site's train samples, no image", predict)
