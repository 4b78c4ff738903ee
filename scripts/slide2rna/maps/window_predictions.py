"""Window predictions: maps of genes and gene sets over a slide, from a model of whole slides.

A window of tiles is a bag like a slide's. Each of the F fold models predicts a distribution for a
window w, with the posterior mean m_fw and the variance v_fw of its draws. A tile's distribution is
the mixture, in equal shares, of those of all W windows over it and of all fold models:

    mean = average of m_fw,      sd^2 = average of v_fw + variance of the m_fw over f and w.

The part of sd from disagreement between models is the sd over f of the averages over w.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypedDict

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.settings import BagsSettings, SampleSettings
from slide2rna.core.types import Array, Indices
from slide2rna.flow import one_step
from slide2rna.flow.velocity import RNAFM
from slide2rna.maps import windows as map_windows
from slide2rna.maps.targets import Targets
from slide2rna.models.regressor import REGRESSION_ROWS, Regressor
from slide2rna.sampling import draw


class WindowSettings(TypedDict):
    """Sections of the configuration for windows."""

    bags: BagsSettings
    sample: SampleSettings


class FoldModelLike(Protocol):
    """A fold's model; `fold_models.FoldModel` is one."""

    @property
    def number(self) -> int: ...
    @property
    def model(self) -> RNAFM | Regressor: ...
    @property
    def meta(self) -> dict: ...  # type: ignore[type-arg]


@dataclass(frozen=True)
class WindowMoments:
    """A fold model's mean and variance (W, T) in every window; variance 0 without draws."""

    mean: Array
    variance: Array


def window_moments(
    member: FoldModelLike,
    features: NDArray[np.float32],
    windows: list[Indices],
    targets: Targets,
    settings: WindowSettings,
    seed: int,
    slide: str,
    draws: int,
) -> WindowMoments:
    """Predict the targets in every window with one fold's model.

    All windows share the same noise, so that tiles differ only by their content.

    Parameters
    ----------
    features
        (n, d) of the slide's tiles.
    windows
        Tiles of each window.
    settings
        Sections bags and sample. The configured guidance is replaced by 1, since only then are
        draws from p(x given y).
    draws
        Per window; with 0 or 1 the variance is 0.

    Raises
    ------
    StageError
        The features don't fit the model, or predictions aren't finite.
    """
    model = member.model
    device = model.gene_sd.device
    if features.shape[1] != member.meta["features"]:
        cause = f"{features.shape[1]} features per tile, the model has {member.meta['features']}"
        raise StageError(slide, cause, "use the encoder that the model was trained with")
    sampling = settings["sample"] | {"guidance": 1.0}
    one_step.check(member.meta, sampling)
    shape = (len(windows), len(targets.names))
    mean, variance = np.empty(shape), np.zeros(shape)
    if isinstance(model, RNAFM):
        pairs = sampling["mean_pairs"]
        width, key = model.noise_width, (seed, member.number, slide)
        white_mean = draw.noise(*key, pairs, width, "mean").to(device)
        white = draw.noise(*key, draws, width, "draws").to(device)
        limit = draw.rows_per_chunk(model, sampling["memory_mb"], device)
        block = max(1, limit // max(draws, 2 * pairs))
    else:
        block = REGRESSION_ROWS

    def target_values(profiles: Tensor) -> NDArray[np.float32]:
        return targets.values(profiles.cpu().numpy())

    label = f"fold {member.number}: blocks of {block} windows"
    blocks = map_windows.bag_blocks(features, windows, settings["bags"], seed, block)
    for rows, means, sizes in progress(blocks, label, -(-len(windows) // block)):
        bag = (torch.from_numpy(means).to(device), torch.from_numpy(sizes).to(device))
        with torch.inference_mode():
            if isinstance(model, RNAFM):
                image = model.encode_image(*bag)
                mean[rows] = target_values(points(model, image, white_mean))
                if draws > 1:
                    copies = white.expand(len(image), *white.shape)
                    z = draw.draw(model, image, copies, sampling, limit)
                    values = target_values(model.restore(z))
                    variance[rows] = values.var(axis=1, ddof=1, dtype=np.float64)
            else:
                mean[rows] = target_values(model.restore(model(*bag)))
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        cause = f"predictions of fold {member.number} aren't finite"
        raise StageError(slide, cause, "retrain with a lower learning_rate")
    return WindowMoments(mean, variance)


def points(model: RNAFM, image: Tensor, white: Tensor) -> Tensor:
    """Return one-step posterior means (S, G) of S bags in log2(x+1) units, from the same noise.

    Like `solvers.posterior_mean`, where noise of opposite signs cancels.

    Parameters
    ----------
    image
        (S, h) from `encode_image`.
    white
        (m, noise_width).
    """
    x0 = model.color(white) * model.active
    pairs = torch.cat([x0, -x0])
    zero = torch.zeros((), dtype=x0.dtype, device=x0.device)
    field = model(pairs.repeat(len(image), 1), zero, image, 1) * model.active
    mean = field.view(len(image), len(pairs), -1).mean(dim=1)
    return model.restore_mean(mean / model.path.d_alpha(zero))


def combine(
    fold_moments: Iterable[WindowMoments], windows: list[Indices], tiles: int
) -> dict[str, Array]:
    """Mix windows and fold models per tile.

    Returns
    -------
    dict
        mean, sd, sd_models (n, T) and n_windows (n,); NaN for tiles outside all windows.
    """
    over = map_windows.cover(windows, tiles)
    count = np.asarray(over.sum(axis=1)).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 1 / np.where(count > 0, count, np.nan)
    total = square = square_of_means = 0.0
    models = 0
    for moments in fold_moments:
        mean = over @ moments.mean * share[:, None]
        total = total + mean
        square_of_means = square_of_means + mean**2
        square = square + over @ (moments.variance + moments.mean**2) * share[:, None]
        models += 1
    mean = np.asarray(total / models)
    return {
        "mean": mean,
        "sd": np.sqrt(np.maximum(square / models - mean**2, 0)),
        "sd_models": np.sqrt(np.maximum(square_of_means / models - mean**2, 0)),
        "n_windows": count,
    }


def table(tiles: pl.DataFrame, maps: dict[str, Array], targets: Targets) -> pl.DataFrame:
    """Return a row per tile and target, tile by tile; null for tiles outside all windows.

    Parameters
    ----------
    tiles
        x, y, size in level-0 px.
    maps
        From `combine`.

    Returns
    -------
    DataFrame
        x, y, size, n_windows, kind, name, mean, sd, sd_models.
    """
    count, width = len(tiles), len(targets.names)
    keys = tiles.select("x", "y", "size").with_columns(
        pl.Series("n_windows", maps["n_windows"].astype(np.int64))
    )
    rows = np.repeat(np.arange(count), width)
    values = {
        name: pl.Series(name, maps[name].ravel().astype(np.float32)).fill_nan(None)
        for name in ("mean", "sd", "sd_models")
    }
    return keys[rows].with_columns(
        pl.Series("kind", targets.kinds * count, dtype=pl.Categorical),
        pl.Series("name", targets.names * count, dtype=pl.Categorical),
        *values.values(),
    )
