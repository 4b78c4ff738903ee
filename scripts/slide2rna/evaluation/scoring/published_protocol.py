"""Published protocol: scores as the published code computes them, to measure its effect (SPEC 2).

Slides instead of patients, all folds pooled, genes ranked by the test correlation that is then
reported, one draw per slide, NRMSE sorted separately. None of this is a claim about a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.rows import SummaryRow
from slide2rna.core.types import Array
from slide2rna.evaluation.metrics.gene_metrics import FLAT
from slide2rna.evaluation.scoring.fold_scores import LEAST_MEAN

ValueAndCount = tuple[float | None, int]  # a score, and its number of genes

NOTE = "slides of all folds pooled; T-k are the genes with the highest test correlation"
NRMSE_NOTE = "slides of all folds pooled; RMSE / mean over the cohort; T-k are the k lowest"
# A T-k that the clean protocol doesn't show has no clean value.
UNKNOWN = (float("nan"), 0)
STEPS = ("0-clean", "1-pooled-slides", "2-test-ranked", "3-one-draw")
STEP_NOTES = (
    "clean protocol: patients, mean over folds, genes ranked by val, mean prediction",
    "slides of all folds pooled, genes still ranked by val",
    "and genes ranked by the pooled test correlation",
    "and one draw per slide instead of the mean prediction",
)


@dataclass
class PooledMoments:
    """Moments of one prediction over the slides of all folds.

    Attributes
    ----------
    shift : (G,) mean of the cohort, subtracted so that the moments don't cancel.
    n : number of slides.
    sums : (5, G) sums of x, y, xx, yy and xy, with x the prediction and y the truth.
    """

    shift: Array
    n: int = 0
    sums: Array = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((5, len(self.shift)))

    def add(self, predicted: Array, observed: Array) -> None:
        """Add slides (S, G)."""
        x, y = predicted - self.shift, observed - self.shift
        self.n += len(x)
        for row, (a, b) in enumerate(((x, None), (y, None), (x, x), (y, y), (x, y))):
            self.sums[row] += a.sum(axis=0) if b is None else np.einsum("ng,ng->g", a, b)

    def pcc(self) -> Array:
        """Return correlations per gene (G,); 0 if the prediction is flat, NaN if the truth is."""
        x, y, xx, yy, xy = self.sums / self.n
        flat, silent = self._is_flat(0), self._is_flat(1)
        scale = np.where(flat | silent, 1.0, (xx - x**2) * (yy - y**2))
        r = np.where(flat, 0.0, np.clip((xy - x * y) / np.sqrt(scale), -1.0, 1.0))
        return np.where(silent, np.nan, r)

    def nrmse(self, mean: Array) -> Array:
        """Return RMSE / mean per gene (G,); NaN for genes that are hardly expressed or constant."""
        _, _, xx, yy, xy = self.sums / self.n
        error = np.sqrt(np.maximum(xx + yy - 2.0 * xy, 0.0))
        counts = (mean >= LEAST_MEAN) & ~self._is_flat(1)
        return np.where(counts, error / np.maximum(mean, LEAST_MEAN), np.nan)

    def _is_flat(self, which: int) -> NDArray[np.bool_]:
        """Return True per gene if prediction (0) or truth (1) has no variance beyond rounding."""
        first, second = self.sums[which] / self.n, self.sums[which + 2] / self.n
        least = FLAT * np.maximum(1.0, np.abs(first + self.shift))
        return second - first**2 <= least**2


def best_means(values: Array, sizes: Sequence[int], sign: float) -> list[tuple[float, int]]:
    """Return mean and count of all finite values, then of the k highest (sign 1) or lowest (-1)."""
    finite = np.sort(sign * values[np.isfinite(values)])[::-1] * sign
    return [
        (float(part.mean()) if len(part) else np.nan, len(part))
        for part in (finite, *(finite[:k] for k in sizes))
    ]


def rows(
    pooled: dict[tuple[str, str], PooledMoments],
    mean: Array,
    top: Sequence[int],
    model: str,
    clean: dict[str, ValueAndCount],
    sets: Sequence[NDArray[np.bool_]],
    set_names: Sequence[str],
) -> list[SummaryRow]:
    """Return rows of the summary for every model, and for `model` the effect of each departure.

    Parameters
    ----------
    pooled : by model and kind (point, draw_mean, one_draw).
    mean : (G,) mean over the cohort, test included.
    top : sizes k of T-k.
    clean : clean correlation of `model` and number of genes, by gene set.
    sets : per fold, the gene sets (G, K) that val ranks, named by `set_names`.
    """
    sizes = [k for k in sorted(top, reverse=True) if k < len(mean)]
    names = ["all", *(f"T{k}" for k in sizes)]
    out: list[SummaryRow] = []

    def add(name: str, metric: str, values: Sequence[ValueAndCount], note: str) -> None:
        for gene_set, (value, genes) in zip(names, values, strict=True):
            row: SummaryRow = {"model": name, "gene_set": gene_set, "metric": metric}
            out.append(row | {"value": value, "n_genes": genes, "note": note})

    ranked = {}
    for (name, kind), moments in pooled.items():
        ranked[name, kind] = best_means(moments.pcc(), sizes, 1.0)
        add(name, "pcc" if kind == "point" else f"pcc_{kind}", ranked[name, kind], NOTE)
        if kind != "draw_mean":
            lowest = best_means(moments.nrmse(mean), sizes, -1.0)
            add(name, "nrmse" if kind == "point" else f"nrmse_{kind}", lowest, NRMSE_NOTE)

    r = pooled[model, "point"].pcc()
    by_val = {
        name: (float(np.mean([np.nanmean(r[mask[:, column]]) for mask in sets])), clean[name][1])
        for column, name in enumerate(set_names)
    }
    steps: list[Sequence[ValueAndCount]] = [
        [clean.get(name, UNKNOWN) for name in names],
        [by_val.get(name, UNKNOWN) for name in names],
        ranked[model, "point"],
    ]
    if (model, "one_draw") in ranked:
        steps.append(ranked[model, "one_draw"])
    for step, note, values in zip(STEPS, STEP_NOTES, steps, strict=False):
        add(model, f"pcc_step:{step}", values, note)
    return out
