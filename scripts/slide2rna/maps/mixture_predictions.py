"""Mixture predictions: maps from a model's mixture head that add up to the bulk prediction.

The head gives every tile an amount x_g. Each fold model's amounts are multiplied by a factor per
slide and gene, so that their mean over the tiles is the model's point for the slide:

    mean over tiles of 2^level = 2^point,    level = log2(1 + factor x_g).

A factor on x (a constant in its logarithm) keeps x nonnegative and the tiles in order. The `gap` is
the difference between bulk and point without this factor. After fold models and windows are
averaged, `add_up` applies a second factor, for the average of the fold models' points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from slide2rna.core.errors import ConfigError
from slide2rna.core.types import Array, Indices
from slide2rna.flow.mixture_head import MixtureHead
from slide2rna.flow.velocity import RNAFM
from slide2rna.maps import window_predictions
from slide2rna.maps.targets import Targets
from slide2rna.maps.window_predictions import FoldModelLike, WindowMoments, WindowSettings
from slide2rna.sampling import draw

# Values (tiles x genes) computed at a time.
CHUNK = 2**23
DEFINITIONS = {
    "mean": "average over the windows that hold the tile and over fold models of the mixture "
    "head's levels, brought to the point: for a gene the mean over tiles of 2^mean is 2^point",
    "sd": "sd over these windows and fold models; the head has no draws",
    "gap": "log2 of the mean over tiles of 2^level, minus the point, before the levels were "
    "brought to it; averaged over fold models",
}


@dataclass(frozen=True)
class MixtureMaps:
    """A fold model's maps.

    Attributes
    ----------
    moments : of the targets in every window; the variance is 0.
    point : (n,) of the mapped genes, the model's point for the slide in log2(x+1).
    gap : (n,) log2 of the mean over tiles before the factor, minus the point.
    """

    moments: WindowMoments
    point: Array
    gap: Array


def check_head(member: FoldModelLike) -> MixtureHead:
    """Return a fold model's mixture head.

    Raises
    ------
    ConfigError
        The model has no mixture head.
    """
    if isinstance(member.model, RNAFM) and member.model.mixture is not None:
        return member.model.mixture
    if member.meta["clusters"] == 1:
        cause = "the model was trained on one vector per slide, so it can't predict tiles"
    else:
        cause = "the model has no mixture head"
    remedy = "leave it out, or train a flow on bags of tiles with model.mixture above 0"
    raise ConfigError("--head mixture", cause, remedy)


@torch.inference_mode()
def mixture_maps(
    member: FoldModelLike,
    features: NDArray[np.float32],
    windows: list[Indices],
    targets: Targets,
    settings: WindowSettings,
    seed: int,
    slide: str,
    bag: tuple[Array, Array],
) -> MixtureMaps:
    """Predict the targets in every window with the mixture head of one fold's model.

    The amount of a window is the mean over its tiles; a window of one tile is the tile.

    Parameters
    ----------
    features
        (n, d) of the slide's tiles.
    windows, settings, seed, slide
        As in `window_predictions.window_moments`.
    bag
        (K, d) and (K,) of the whole slide, for its point.

    Raises
    ------
    ConfigError
        The model has no mixture head.
    """
    head, model = check_head(member), member.model
    assert isinstance(model, RNAFM)
    device = model.gene_sd.device
    pairs = settings["sample"]["mean_pairs"]
    white = draw.noise(seed, member.number, slide, pairs, model.noise_width, "mean").to(device)
    means, sizes = (torch.from_numpy(part[None]).float().to(device) for part in bag)
    image = model.encode_image(means, sizes)
    point = window_predictions.points(model, image, white)[0].double().cpu().numpy()

    def amounts(tiles: Indices) -> NDArray[np.float32]:
        chosen = torch.from_numpy(features[tiles]).to(device)
        return np.asarray(head.amounts(model.condition.scale_features(chosen)).cpu().numpy())

    count, genes = len(features), len(point)
    total = np.zeros(genes)
    step = max(1, CHUNK // genes)
    for start in range(0, count, step):
        part = amounts(np.arange(start, min(start + step, count)))
        total += part.sum(axis=0, dtype=np.float64) / count
    factor = _factor(point, total)
    values = np.empty((len(windows), len(targets.names)))
    block = max(1, step // max(map(len, windows)))
    for start in range(0, len(windows), block):
        held = windows[start : start + block]
        lengths = [len(tiles) for tiles in held]
        of_tiles = amounts(np.concatenate(held))
        first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        mean = np.add.reduceat(of_tiles, first, axis=0) / np.array(lengths)[:, None]
        # A gene with no amount in any tile is spread evenly.
        levels = np.where(total > 0, np.log2(1 + factor * mean), point)
        values[start : start + len(held)] = targets.values(levels.astype(np.float32))
    rows = targets.rows
    gap = np.log2(1 + total[rows]) - point[rows]
    return MixtureMaps(WindowMoments(values, np.zeros_like(values)), point[rows], gap)


def add_up(maps: dict[str, Array], point: Array) -> dict[str, Array]:
    """Scale the mapped genes so that they add up to the slide's point over all fold models.

    Parameters
    ----------
    maps
        From `window_predictions.combine`: the first columns are genes.
    point
        (n,) of the mapped genes, averaged over fold models.
    """
    mean = maps["mean"].copy()
    genes = slice(0, len(point))
    amount = np.exp2(mean[:, genes]) - 1
    total = np.nanmean(amount, axis=0)
    factor = _factor(point, total)
    even = np.where(np.isnan(amount), np.nan, point)
    mean[:, genes] = np.where(total > 0, np.log2(1 + factor * amount), even)
    return maps | {"mean": mean}


def _factor(point: Array, total: Array) -> Array:
    """Return the factors (n,) that bring mean amounts `total` to a point in log2(x+1)."""
    return np.asarray((np.exp2(point) - 1) / np.where(total > 0, total, 1))
