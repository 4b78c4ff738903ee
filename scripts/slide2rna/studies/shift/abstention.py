"""What a model gains by answering only for the patients that it should know best.

Patients of each fold are ordered by how far their slides lie from training, or by how much their
draws spread, and the farthest are left out. Beside it stand random orders, which any order must
beat, and the order of the true errors, which none can beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from slide2rna.core import files
from slide2rna.core.config import Settings
from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.types import Array
from slide2rna.data import patients
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import comparison, folds, labels
from slide2rna.studies.shift.answered_scores import ORACLE, RANDOM, SHARES, FoldSamples, scores

ORDERS = {"bag": "bag_distance", "expression": "expression_distance", "spread": "spread"}
# What is better: more correlation, less error.
SIGNS = {"pcc": 1, "rmse": -1, "crps": -1}
BAND = (0.05, 0.95)
FEW = "no fold has more than three patients left"
SCHEMA = pl.Schema(
    {"order": pl.String, "metric": pl.String, "gene_set": pl.String, "share": pl.Float64}
    | dict.fromkeys(("value", "low", "high", "null_low", "null_high"), pl.Float64)
    | {"p": pl.Float64, "of_oracle": pl.Float64, "n_patients": pl.Int64, "n_genes": pl.Int64}
    | {"note": pl.String}
)


@dataclass(frozen=True)
class AbstentionInputs:
    """Files of a cohort and of a run.

    Attributes
    ----------
    draws, shift : a path per fold.
    evaluation : folder with the run's genes.parquet and samples.parquet.
    """

    draws: list[Path]
    shift: list[Path]
    evaluation: Path
    bags: Path
    expression: Path
    slides: Path
    splits: Path
    cohort: Path


def abstention_table(
    inputs: AbstentionInputs, name: str, out: str | Path, settings: Settings, seed: int
) -> pl.DataFrame:
    """Score the answered patients at every share; write and return the table.

    Rows with a share are curves; null_low and null_high are the band of random orders. Rows
    without one are the gain: the mean improvement over the shares below 1 against answering for
    everyone, p over random orders, and how much of the oracle's it is.

    Raises
    ------
    StageError
        A test slide isn't in the tables of shift, or a sample not in those of evaluate.
    """
    genes = folds.read_genes(inputs.draws[0])
    cohort = patients.load_cohort(
        genes, inputs.bags, inputs.expression, inputs.slides, inputs.splits, inputs.cohort
    )
    of_genes = pl.read_parquet(inputs.evaluation / "genes.parquet")
    if of_genes["gene"].to_list() != genes:
        raise StageError(inputs.evaluation, "its genes aren't the draws'", "evaluate anew")
    samples = pl.read_parquet(inputs.evaluation / "samples.parquet")
    shift = pl.concat([pl.read_parquet(path) for path in inputs.shift])
    known = [column.removeprefix("in_") for column in of_genes.columns if column[:4] == "in_T"]
    shown = labels.shown_sets(["all", *known])
    loaded = (folds.load_fold(cohort, path) for path in inputs.draws)
    tested = [
        _tested(fold, shift, samples, of_genes, shown)
        for fold in sorted(loaded, key=lambda fold: fold.number)
    ]
    rows = rows_of(tested, shown, settings["bootstrap"], settings["permutations"], seed)
    table = pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.selectors.float().fill_nan(None))
    stamp = {"cohort": cohort.info["name"], "run": name, "protocol": "clean"}
    files.write_stamped(table, out, stamp, cohort.info.get("caveat"))
    return table


def _tested(
    fold: folds.Fold, shift: pl.DataFrame, samples: pl.DataFrame, genes: pl.DataFrame, shown: list
) -> FoldSamples:
    own = shift.filter(pl.col("fold") == fold.number)
    rows = {slide: row for row, slide in enumerate(own["slide_id"])}
    crps = dict(
        samples.filter(pl.col("fold") == fold.number).select("sample_id", "crps").iter_rows()
    )
    lost = [s for s in fold.test.slide_ids if s not in rows]
    lost += [s for s in fold.test.samples if s not in crps]
    if lost:
        cause = f"'{lost[0]}' of fold {fold.number} is missing"
        raise StageError("tables of shift and evaluate", cause, "make both anew")
    place = [rows[slide] for slide in fold.test.slide_ids]
    orders = {
        name: fold.test.average(own[column].cast(pl.Float64).to_numpy()[place])
        for name, column in ORDERS.items()
    }
    eligible = ~gene_metrics.is_flat(fold.train.truth)
    sets = [
        eligible & (genes[f"in_{name}"].list.contains(fold.number).to_numpy())
        if name != "all"
        else eligible
        for name in shown
    ]
    return FoldSamples(
        fold.number,
        fold.test.truth,
        fold.read("point", fold.test),
        np.array([crps[sample] for sample in fold.test.samples], dtype=float),
        fold.test.owners,
        orders,
        np.stack(sets, axis=1),
    )


def rows_of(
    tested: Sequence[FoldSamples],
    shown: Sequence[str],
    resamples: int,
    permutations: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table; an order that some fold doesn't know is left out."""
    orders = [
        name
        for name in tested[0].orders
        if all(np.isfinite(fold.orders[name]).all() for fold in tested)
    ]
    folded = [
        scores(fold, [*orders, ORACLE], resamples, permutations, seed)
        for fold in progress(tested, "abstention")
    ]
    drawn = all(np.isfinite(fold.crps).all() for fold in tested)
    rows: list[dict[str, Any]] = []
    for metric, sign in SIGNS.items():
        if metric == "crps" and not drawn:
            continue
        for column, gene_set in enumerate(shown[:1] if metric == "crps" else shown):
            genes = float(np.mean([fold.sets[:, column].sum() for fold in tested]))
            keys = {
                "metric": metric,
                "gene_set": gene_set,
                "n_patients": sum(len(set(fold.owners)) for fold in tested),
                "n_genes": round(genes),
            }
            curves = {
                name: _over_folds(
                    [one[name][metric][:, :, column] for one in folded], tested, metric
                )
                for name in [*orders, ORACLE, RANDOM]
            }
            rows += [keys | row for row in _curves(curves)] + [
                keys | row for row in _gains(curves, sign, metric != "pcc")
            ]
    return rows


def _over_folds(parts: Sequence[Array], tested: Sequence[FoldSamples], metric: str) -> Array:
    """Mean over the folds (R, S); a correlation needs more than three patients."""
    both, sizes = np.array(parts), np.array([len(fold.truth) for fold in tested])
    return np.stack(
        [
            comparison.over_folds(both[:, :, place], list(share * sizes), metric == "pcc")
            for place, share in enumerate(SHARES)
        ],
        axis=1,
    )


def _curves(curves: dict[str, Array]) -> list[dict[str, Any]]:
    null = np.quantile(curves[RANDOM], BAND, axis=0)
    rows = []
    for name, values in curves.items():
        value, (low, high) = values[0], bootstrap.interval(values)
        if name == RANDOM:
            value, (low, high) = values.mean(axis=0), null
        for place, share in enumerate(SHARES):
            known = bool(np.isfinite(value[place]))
            row = {"order": name, "share": float(share), "note": "" if known else FEW}
            rows.append(row | _four(value, low, high, null, place))
    return rows


def _four(value: Array, low: Array, high: Array, null: Array, place: int) -> dict[str, float]:
    return {
        "value": float(value[place]),
        "low": float(low[place]),
        "high": float(high[place]),
        "null_low": float(null[0][place]),
        "null_high": float(null[1][place]),
    }


def _gains(curves: dict[str, Array], sign: int, is_error: bool) -> list[dict[str, Any]]:
    """Mean improvement over the shares below 1, of every order.

    `of_oracle` is the area between an order's curve and the mean random one, as a part of the
    oracle's; none for a correlation, which leaving out the extremes lowers by itself.
    """
    known = np.isfinite(curves[RANDOM][0])
    if not known[1:].any():
        return []
    gain = {
        name: sign * (values[:, known][:, 1:] - values[:, :1]).mean(axis=1)
        for name, values in curves.items()
    }
    null = gain[RANDOM]
    middle = float(null.mean())
    best = float(gain[ORACLE][0]) - middle
    band = np.quantile(null, BAND)
    rows = []
    for name, values in gain.items():
        value, (low, high) = float(values[0]), bootstrap.interval(values)
        row: dict[str, Any] = {"order": name, "note": "gain: mean improvement over the shares"}
        # Few patients have few orders: one that is drawn again is a tie but for rounding.
        reached = (null >= value) | np.isclose(null, value, rtol=1e-5, atol=1e-6)
        row |= {"p": float((1 + np.count_nonzero(reached)) / (len(null) + 1))}
        if name == RANDOM:
            value, (low, high) = middle, band
            row["p"] = None
        row["of_oracle"] = (value - middle) / best if is_error and best > 0 else None
        row |= {"value": value, "low": float(low), "high": float(high)}
        rows.append(row | {"null_low": float(band[0]), "null_high": float(band[1])})
    return rows
