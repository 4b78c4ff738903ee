"""Conformal table: coverage and width of conformal intervals and of the draws' intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from slide2rna.core import seeds
from slide2rna.core.types import Array, Row
from slide2rna.evaluation.metrics import bootstrap
from slide2rna.evaluation.scoring import variant_scores
from slide2rna.evaluation.scoring.draw_scores import DrawScores, patient_shares
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.scoring.fold_scores import set_weights
from slide2rna.evaluation.uncertainty import calibration, conformal
from slide2rna.evaluation.uncertainty.conformal import CalibratedFold

SIMULATIONS = 2000
SCHEMA = {
    "gene_set": pl.String,
    "kind": pl.String,
    "within": pl.String,
    "level": pl.Float64,
    "attainable": pl.Float64,
    "n_cal": pl.Int64,
    "covered": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "width": pl.Float64,
    "width_ratio": pl.Float64,
    "answered": pl.Float64,
    "n": pl.Int64,
    "note": pl.String,
}


@dataclass(frozen=True)
class Tally:
    """Coverage and width of one kind of interval at one level in one fold.

    Attributes
    ----------
    share, width : (n, K) per test sample and gene set: share of values inside, mean width.
    raw_width : (n, K) width of the draws' intervals at this level; NaN without draws.
    weight : (n,) per test sample: one over the samples of its patient, since coverage is
        guaranteed per patient, for a sample drawn at random.
    hits : (G,) weight of the answered samples inside, per gene.
    answered : (n,) True if the sample has an interval.
    calibrating : (n,) number of its calibration patients.
    """

    share: Array
    width: Array
    raw_width: Array
    weight: Array
    hits: Array
    answered: NDArray[np.bool_]
    calibrating: NDArray[np.int64]

    @property
    def patients(self) -> float:
        """Number of answered patients; one with some samples answered counts in part."""
        return float(self.weight[self.answered].sum())


def table(
    evaluated: Evaluated, calibrated_folds: Sequence[CalibratedFold], by: str
) -> pl.DataFrame:
    """Return a row per gene set, kind, within and level; empty without the draws' mean and sd."""
    rows: list[Row] = []
    kinds = ["conformal", *(["conformal-site"] if by == "site" else [])]
    drawn = [kind for kind in ["draws"] if evaluated.draw_scores]
    for kind in [*drawn, *kinds] if calibrated_folds else []:
        for number, level in enumerate(evaluated.levels):
            tallies = [
                _tally_draws(evaluated, fold, level)
                if kind == "draws"
                else _tally_conformal(evaluated, calibrated, fold, kind, number, level)
                for fold, calibrated in enumerate(calibrated_folds)
            ]
            attained = [tally for tally in tallies if tally is not None]
            if len(attained) == len(tallies):
                rows += _level_rows(evaluated, attained, kind, level)
    return pl.DataFrame(rows, schema=SCHEMA)


def _tally_draws(evaluated: Evaluated, fold: int, level: float) -> Tally | None:
    """Tally the draws' intervals; None at a level that this number of draws can't attain."""
    draws = evaluated.draw_scores[fold]
    index = _find_level(draws, level)
    if index is None:
        return None
    everyone = np.ones(len(draws.mean), dtype=bool)
    width = draws.set_width[index]
    weight = patient_shares(evaluated.folds[fold].test.patient_ids)
    hits = draws.covered_patients[index]
    return Tally(draws.covered[index], width, width, weight, hits, everyone, 0 * everyone)


def _find_level(draws: DrawScores, level: float) -> int | None:
    indices = np.flatnonzero(np.isclose(draws.levels, level))
    return int(indices[0]) if len(indices) else None


def _tally_conformal(
    evaluated: Evaluated,
    calibrated: CalibratedFold,
    fold: int,
    kind: str,
    number: int,
    level: float,
) -> Tally:
    low, high, answered = calibrated.intervals(kind, number)
    sets = evaluated.predictions[fold].sets[evaluated.model]
    weights = set_weights(sets, np.ones(len(sets), dtype=bool))
    inside = ((low <= calibrated.truth) & (calibrated.truth <= high)).astype(np.float32)
    width = np.where(answered[:, None], high - low, np.float32(0))
    raw = np.full((len(low), sets.shape[1]), np.nan)
    level_index = _find_level(evaluated.draw_scores[fold], level) if evaluated.draw_scores else None
    if level_index is not None:
        raw = evaluated.draw_scores[fold].set_width[level_index]
    counts = np.array([group.count for group in calibrated.groups(kind)], dtype=np.int64)
    weight = patient_shares(evaluated.folds[fold].test.patient_ids)
    hits = weight[answered] @ inside[answered]
    return Tally(inside @ weights, width @ weights, raw, weight, hits, answered, counts)


def _level_rows(
    evaluated: Evaluated, tallies: Sequence[Tally], kind: str, level: float
) -> list[Row]:
    answered = np.concatenate([tally.answered for tally in tallies])
    calibrating = np.concatenate([tally.calibrating for tally in tallies])
    weight = np.concatenate([tally.weight for tally in tallies])
    base: Row = {"kind": kind, "level": float(level)}
    base["answered"] = float(np.average(answered, weights=weight))
    if kind != "draws":
        group_sizes = calibrating[answered]
        promised = [conformal.attainable(int(n), level) for n in group_sizes]
        base["n_cal"] = int((group_sizes if len(group_sizes) else calibrating).min())
        base["attainable"] = (
            float(np.average(promised, weights=weight[answered])) if len(group_sizes) else None  # type: ignore[arg-type]
        )
    if not answered.any():
        needed = next(n for n in range(1, 10**6) if conformal.order(n, level) is not None)
        base |= {"n": 0, "note": f"refused: it needs {needed} calibration patients, not widened"}
        return [
            base | {"gene_set": name, "within": within}
            for name in evaluated.set_names
            for within in ("pooled", "gene", "sample")
        ]
    rows = []
    for column, name in enumerate(evaluated.set_names):
        set_base = base | {"gene_set": name}
        rows.append(set_base | _pooled_row(evaluated, tallies, column))
        share = np.concatenate([tally.share[tally.answered, column] for tally in tallies])
        low, middle, high = np.quantile(share, [0.05, 0.5, 0.95])
        spread = {"covered": middle, "low": low, "high": high, "n": len(share)}
        note = "median, 5th to 95th percentile"
        rows.append(set_base | {"within": "sample", "note": note} | spread)
        rows.append(set_base | _within_gene_row(evaluated, tallies, column, kind, level))
    caution = variant_scores.guidance_note(evaluated.folds) if kind == "draws" else ""
    for row in rows:
        row["note"] = "; ".join(filter(None, [row["note"], caution]))
    return rows


def _pooled_row(evaluated: Evaluated, tallies: Sequence[Tally], column: int) -> Row:
    """Return coverage and width over all answered samples, each patient with a weight of one."""

    def mean(name: str) -> Array:
        above, below = np.zeros((2, len(evaluated.predictions[0].counts)))
        for predictions, tally in zip(evaluated.predictions, tallies, strict=True):
            counts = predictions.counts[:, tally.answered] * tally.weight[tally.answered]
            above += counts @ getattr(tally, name)[tally.answered, column]
            below += counts.sum(axis=1)
        return above / np.maximum(below, 1e-9)

    covered = mean("share")
    low, high = np.clip(bootstrap.interval(covered), 0, 1)
    width, raw = mean("width")[0], mean("raw_width")[0]
    ratio = float(width / raw) if np.isfinite(raw) and raw > 0 else None
    return {
        "within": "pooled",
        "covered": covered[0],
        "low": low,
        "high": high,
        "width": width,
        "width_ratio": ratio,
        "n": int(sum(tally.answered.sum() for tally in tallies)),
        "note": "95 % over test patients",
    }


def _within_gene_row(
    evaluated: Evaluated, tallies: Sequence[Tally], column: int, kind: str, level: float
) -> Row:
    members = [
        predictions.sets[evaluated.model][:, column] for predictions in evaluated.predictions
    ]
    ends = _simulate_chance(tallies, level, kind, evaluated.seed)
    row = calibration.within_gene(
        [tally.hits for tally in tallies],
        members,
        [tally.patients for tally in tallies],
        "patients",
        lambda _: ends,
    )
    if kind == "conformal":
        row["note"] += " and these calibration patients"
    if kind == "conformal-site":
        row["note"] += ", calibration patients left out of account"
    return row


def _simulate_chance(tallies: Sequence[Tally], level: float, kind: str, seed: int) -> Array:
    """Simulate the 5th and 95th percentile of a gene's coverage over all folds at this level.

    Given its calibration patients, a gene's coverage follows Beta(k, n + 1 - k) (Vovk 2012,
    doi:10.1007/s10994-013-5355-6). Folds are treated as calibrated on different patients.
    """
    rng = seeds.rng_for(seed, "conformal", "chance", level)
    hits = np.zeros(SIMULATIONS)
    for tally in tallies:
        count = round(tally.patients)
        n = int(tally.calibrating[tally.answered].max(initial=0))
        k = conformal.order(n, level)
        if kind == "conformal" and k is not None:
            hits += stats.betabinom.rvs(count, k, n + 1 - k, size=SIMULATIONS, random_state=rng)
        else:
            hits += rng.binomial(count, level, size=SIMULATIONS)
    total = max(sum(round(tally.patients) for tally in tallies), 1)
    return np.asarray(np.quantile(hits / total, [0.05, 0.95]))
