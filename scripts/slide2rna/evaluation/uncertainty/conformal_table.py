"""What conformal intervals cover and how wide they are, beside the draws' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from slide2rna.core import seeds
from slide2rna.core.types import Array
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
    """One kind of interval at one level in one fold.

    Attributes
    ----------
    share, width : (n, K) of a gene set, per test sample: measured values inside, mean width.
    raw_width : (n, K) of the draws' own intervals at this level; NaN without draws.
    weight : (n,) of a test sample: one over the samples of its patient, as a patient is promised
        coverage of a sample drawn at random.
    hits : (G,) weight of the answered samples inside, per gene.
    answered : (n,) whether the sample has an interval.
    calibrating : (n,) patients that it rests on.
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
        """Answered patients; one with some samples answered counts in part."""
        return float(self.weight[self.answered].sum())


def table(found: Evaluated, of_folds: Sequence[CalibratedFold], by: str) -> pl.DataFrame:
    """A row per gene set, kind, within and level; empty without the draws' mean and sd."""
    rows: list[dict[str, Any]] = []
    kinds = ["conformal", *(["conformal-site"] if by == "site" else [])]
    drawn = [kind for kind in ["draws"] if found.draws]
    for kind in [*drawn, *kinds] if of_folds else []:
        for number, level in enumerate(found.levels):
            tallies = [
                _raw(found, fold, level)
                if kind == "draws"
                else _tally(found, of, fold, kind, number, level)
                for fold, of in enumerate(of_folds)
            ]
            known = [tally for tally in tallies if tally is not None]
            if len(known) == len(tallies):
                rows += _rows(found, known, kind, level)
    return pl.DataFrame(rows, schema=SCHEMA)


def _raw(found: Evaluated, fold: int, level: float) -> Tally | None:
    """The draws' own intervals; None at a level that so few draws don't reach."""
    scored = found.draws[fold]
    index = _place(scored, level)
    if index is None:
        return None
    everyone = np.ones(len(scored.mean), dtype=bool)
    width = scored.set_width[index]
    weight = patient_shares(found.folds[fold].test.owners)
    hits = scored.covered_patients[index]
    return Tally(scored.covered[index], width, width, weight, hits, everyone, 0 * everyone)


def _place(scored: DrawScores, level: float) -> int | None:
    near = np.flatnonzero(np.isclose(scored.levels, level))
    return int(near[0]) if len(near) else None


def _tally(
    found: Evaluated, of: CalibratedFold, fold: int, kind: str, number: int, level: float
) -> Tally:
    low, high, answered = of.intervals(kind, number)
    sets = found.inputs[fold].sets[found.model]
    weights = set_weights(sets, np.ones(len(sets), dtype=bool))
    inside = ((low <= of.truth) & (of.truth <= high)).astype(np.float32)
    width = np.where(answered[:, None], high - low, np.float32(0))
    raw = np.full((len(low), sets.shape[1]), np.nan)
    place = _place(found.draws[fold], level) if found.draws else None
    if place is not None:
        raw = found.draws[fold].set_width[place]
    counts = np.array([group.count for group in of.groups(kind)], dtype=np.int64)
    weight = patient_shares(found.folds[fold].test.owners)
    hits = weight[answered] @ inside[answered]
    return Tally(inside @ weights, width @ weights, raw, weight, hits, answered, counts)


def _rows(
    found: Evaluated, tallies: Sequence[Tally], kind: str, level: float
) -> list[dict[str, Any]]:
    answered = np.concatenate([tally.answered for tally in tallies])
    calibrating = np.concatenate([tally.calibrating for tally in tallies])
    weight = np.concatenate([tally.weight for tally in tallies])
    base: dict[str, Any] = {"kind": kind, "level": float(level)}
    base["answered"] = float(np.average(answered, weights=weight))
    if kind != "draws":
        kept = calibrating[answered]
        promised = [conformal.attainable(int(n), level) for n in kept]
        base["n_cal"] = int((kept if len(kept) else calibrating).min())
        base["attainable"] = (
            float(np.average(promised, weights=weight[answered])) if len(kept) else None  # type: ignore[arg-type]
        )
    if not answered.any():
        needed = next(n for n in range(1, 10**6) if conformal.order(n, level) is not None)
        base |= {"n": 0, "note": f"refused: it needs {needed} calibration patients, not widened"}
        return [
            base | {"gene_set": name, "within": within}
            for name in found.set_names
            for within in ("pooled", "gene", "sample")
        ]
    rows = []
    for column, name in enumerate(found.set_names):
        own = base | {"gene_set": name}
        rows.append(own | _pooled(found, tallies, column))
        share = np.concatenate([tally.share[tally.answered, column] for tally in tallies])
        low, middle, high = np.quantile(share, [0.05, 0.5, 0.95])
        spread = {"covered": middle, "low": low, "high": high, "n": len(share)}
        note = "median, 5th to 95th percentile"
        rows.append(own | {"within": "sample", "note": note} | spread)
        rows.append(own | _within_gene(found, tallies, column, kind, level))
    caution = variant_scores.guided(found.folds) if kind == "draws" else ""
    for row in rows:
        row["note"] = "; ".join(filter(None, [row["note"], caution]))
    return rows


def _pooled(found: Evaluated, tallies: Sequence[Tally], column: int) -> dict[str, Any]:
    """Over all answered samples, a patient's sharing a weight of one, with an interval."""

    def mean(name: str) -> Array:
        above, below = np.zeros((2, len(found.inputs[0].counts)))
        for given, tally in zip(found.inputs, tallies, strict=True):
            counts = given.counts[:, tally.answered] * tally.weight[tally.answered]
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


def _within_gene(
    found: Evaluated, tallies: Sequence[Tally], column: int, kind: str, level: float
) -> dict[str, Any]:
    members = [given.sets[found.model][:, column] for given in found.inputs]
    ends = _chance(tallies, level, kind, found.seed)
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


def _chance(tallies: Sequence[Tally], level: float, kind: str, seed: int) -> Array:
    """5th and 95th percentile of a gene's coverage over all folds, if all is as promised.

    Given its calibration patients, a gene's coverage follows Beta(k, n + 1 - k) (Vovk 2012,
    doi:10.1007/s10994-013-5355-6). Folds are taken as if they calibrated on different patients.
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
