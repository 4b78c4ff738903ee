"""Split-conformal intervals per gene, from patients held out of training and model selection.

Locally weighted (Lei et al. 2018, doi:10.1080/01621459.2017.1307116): the score of a patient is the
error of the point in units of the sd of its draws, so a slide that the model finds hard gets a
wider interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna.core.types import Array
from slide2rna.data.patients import one_row_per_patient
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.scoring.folds import Fold
from slide2rna.evaluation.uncertainty.calibration import SD_FLOOR

FACTORS = pl.Schema(
    {
        "fold": pl.Int64,
        "gene": pl.String,
        "site": pl.String,
        "level": pl.Float64,
        "attainable": pl.Float64,
        "n_cal": pl.Int64,
        "factor": pl.Float64,
        "sd_floor": pl.Float64,
    }
)


def order(n: int, level: float) -> int | None:
    """Return the rank of the half-width among n scores, ceil((n + 1) level); None if above n."""
    k = math.ceil(round((n + 1) * level, 9))
    return k if k <= n else None


def attainable(n: int, level: float) -> float | None:
    """Return the coverage guaranteed by n patients: k / (n + 1), at least the nominal level."""
    k = order(n, level)
    return None if k is None else k / (n + 1)


@dataclass(frozen=True)
class CalibrationGroup:
    """Calibration patients of a fold, or of one of its sites.

    Attributes
    ----------
    site : None for the whole fold.
    count : patients.
    levels : (L,) nominal.
    factors : (L, G) half-width in units of the sd of the draws; NaN where refused.
    """

    site: str | None
    count: int
    levels: Sequence[float]
    factors: Array

    @classmethod
    def of(
        cls, scores: Array, levels: Sequence[float], site: str | None = None
    ) -> CalibrationGroup:
        """Compute the factors from the scores (m, G) of m patients."""
        ordered = np.sort(scores, axis=0)
        factors = np.full((len(levels), scores.shape[1]), np.nan, np.float32)
        for row, level in enumerate(levels):
            k = order(len(scores), level)
            if k is not None:
                factors[row] = ordered[k - 1]
        return cls(site, len(scores), levels, factors)


@dataclass(frozen=True)
class CalibratedFold:
    """Conformal calibration of a fold, with its test samples.

    Attributes
    ----------
    floor : (G,) least sd, in log2 units.
    whole : all calibration patients.
    by_site : calibration patients by site; empty unless calibrated by site.
    point, scale, truth : (n, G) of the test samples: centre and unit of the intervals, measured.
    sites : (n,) site of each test sample.
    refused : an empty group, for samples of sites without calibration patients.
    """

    floor: Array
    whole: CalibrationGroup
    by_site: dict[str, CalibrationGroup]
    point: Array
    scale: Array
    truth: Array
    sites: list[str | None]
    refused: CalibrationGroup = field(init=False)

    def __post_init__(self) -> None:
        nobody = np.empty((0, len(self.floor)), np.float32)
        object.__setattr__(self, "refused", CalibrationGroup.of(nobody, self.whole.levels))

    def groups(self, kind: str) -> list[CalibrationGroup]:
        """Return the calibration group of each test sample (n,)."""
        if kind == "conformal":
            return [self.whole] * len(self.sites)
        # A sample without a site has no calibration group.
        return [self.by_site.get(site or "", self.refused) for site in self.sites]

    def intervals(self, kind: str, level: int) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Return low, high (n, G) at the level with this index, and a mask (n,) of the answered."""
        groups = self.groups(kind)
        factor = np.stack([group.factors[level] for group in groups])
        low, high = interval(self.point, self.scale, factor)
        return low, high, np.array([order(g.count, g.levels[level]) is not None for g in groups])


def scores(point: Array, scale: Array, truth: Array) -> Array:
    """Return errors in units of the scale (m, G), in single precision."""
    return np.asarray(np.abs(truth - point) / scale, dtype=np.float32)


def least_sd(train_sd: Array) -> NDArray[np.float32]:
    """Return the least sd per gene, as draws of a silent gene are all 0; 1 for a constant gene."""
    return np.where(train_sd > 0, SD_FLOOR * train_sd, 1.0).astype(np.float32)


def has_moments(evaluated: Evaluated) -> bool:
    """Return True if the files hold mean and sd of the draws, calibration slides included."""
    return all(fold.has("mean") and fold.has("sd") for fold in evaluated.folds)


def calibrate(
    fold: Fold,
    point: Array,
    train_sd: Array,
    levels: Sequence[float],
    by: str,
    seed: int,
) -> CalibratedFold:
    """Read the calibration and test samples of a fold and compute its factors.

    Parameters
    ----------
    point : (n, G) of the test samples.
    train_sd : (G,)
    by : none or site (Mondrian).
    """
    floor = least_sd(train_sd)
    rows = one_row_per_patient(fold.cal.patient_ids, seed, "conformal", fold.number)
    scale = np.maximum(fold.mixture(fold.cal)[1], floor)
    cal_scores = scores(fold.read("point", fold.cal), scale, fold.cal.truth)[rows]
    by_site = {}
    if by == "site":
        names = np.array([fold.cal.sample_sites()[row] or "" for row in rows], dtype=object)
        for site in sorted(set(names) - {""}):
            by_site[site] = CalibrationGroup.of(cal_scores[names == site], levels, site)
    return CalibratedFold(
        floor=floor,
        whole=CalibrationGroup.of(cal_scores, levels),
        by_site=by_site,
        point=point,
        scale=np.maximum(fold.mixture(fold.test)[1], floor),
        truth=fold.test.truth,
        sites=fold.test.sample_sites(),
    )


def calibrate_all(evaluated: Evaluated, by: str) -> Iterator[CalibratedFold]:
    """Yield every calibrated fold; none if the files lack mean and sd of the draws."""
    if not has_moments(evaluated):
        return
    for fold, predictions, (_, sd) in zip(
        evaluated.folds, evaluated.predictions, evaluated.train_moments, strict=True
    ):
        yield calibrate(
            fold, predictions.test[evaluated.model], sd, evaluated.levels, by, evaluated.seed
        )


def factor_table(evaluated: Evaluated, calibrated_folds: Sequence[CalibratedFold]) -> pl.DataFrame:
    """Return the factors that, with point and sd of its draws, give the interval of a new slide.

    Returns
    -------
    A row per fold, site (null: the whole fold), level and gene; where the level is refused, one
    row without gene and factor. The interval is point ± factor * max(sd, sd_floor), at least 0.
    """
    genes = pl.Series("gene", evaluated.cohort.genes, dtype=pl.String)
    nothing = pl.DataFrame({key: [None] for key in ("gene", "factor", "sd_floor")})
    parts = [pl.DataFrame(schema=FACTORS)]
    for fold, calibrated in zip(evaluated.folds, calibrated_folds, strict=bool(calibrated_folds)):
        for group in [calibrated.whole, *calibrated.by_site.values()]:
            for row, level in enumerate(group.levels):
                promised = attainable(group.count, level)
                gene_factors = pl.DataFrame(
                    {"gene": genes, "factor": group.factors[row], "sd_floor": calibrated.floor}
                )
                frame = (nothing if promised is None else gene_factors).with_columns(
                    fold=pl.lit(fold.number),
                    site=pl.lit(group.site),
                    level=pl.lit(level, dtype=pl.Float64),
                    attainable=pl.lit(promised),
                    n_cal=pl.lit(group.count),
                )
                parts.append(frame.select(list(FACTORS)).cast(FACTORS))
    return pl.concat(parts)


def interval(point: Array, scale: Array, factor: Array) -> tuple[Array, Array]:
    """Return the ends of point ± factor * scale, at least 0 as log2(x+1) can't be negative."""
    half = factor * scale
    return np.maximum(point - half, 0), np.maximum(point + half, 0)
