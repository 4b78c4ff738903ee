"""Abstention study: scores of a model that predicts only the slides nearest to training.

Patients of each fold are ordered by the distance of their slides from training, or by the spread
of their draws, and the farthest are left out. Random orders are the null, which a useful order
must beat. The order of the true errors is the oracle, which no order can beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.settings import ShiftSettings
from slide2rna.core.types import Array, Row
from slide2rna.data import patients
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import comparison, folds, labels
from slide2rna.storage import parquet
from slide2rna.studies.shift.answered_scores import ORACLE, RANDOM, SHARES, FoldSamples, scores

ORDERS = {"bag": "bag_distance", "expression": "expression_distance", "spread": "spread"}
# The direction of improvement: more correlation, less error.
SIGNS = {"pcc": 1, "rmse": -1, "crps": -1}
BAND = (0.05, 0.95)
TOO_FEW_PATIENTS = "no fold has more than three patients left"
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
    inputs: AbstentionInputs, name: str, out: str | Path, settings: ShiftSettings, seed: int
) -> pl.DataFrame:
    """Score the answered patients at every share; write and return the table.

    Rows with a share are curves; null_low and null_high are the band of random orders. Rows
    without a share are gains: the mean improvement over the shares below 1 relative to answering
    for all patients, its p-value against random orders, and its share of the oracle's gain.

    Raises
    ------
    StageError
        A test slide is missing from the tables of shift, or a sample from those of evaluate.
    """
    genes = folds.read_genes(inputs.draws[0])
    cohort = patients.load_cohort(
        genes, inputs.bags, inputs.expression, inputs.slides, inputs.splits, inputs.cohort
    )
    gene_table = parquet.read(inputs.evaluation / "genes.parquet")
    if gene_table["gene"].to_list() != genes:
        raise StageError(
            inputs.evaluation,
            "its genes differ from those of the draws",
            "rerun the stage evaluate",
        )
    samples = parquet.read(inputs.evaluation / "samples.parquet")
    shift = pl.concat([parquet.read(path) for path in inputs.shift])
    top_sets = [column.removeprefix("in_") for column in gene_table.columns if column[:4] == "in_T"]
    gene_sets = labels.shown_sets(["all", *top_sets])
    loaded = (folds.load_fold(cohort, path) for path in inputs.draws)
    tested = [
        _fold_samples(fold, shift, samples, gene_table, gene_sets)
        for fold in sorted(loaded, key=lambda fold: fold.number)
    ]
    rows = abstention_rows(tested, gene_sets, settings["bootstrap"], settings["permutations"], seed)
    table = pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.selectors.float().fill_nan(None))
    stamp = {"cohort": cohort.info["name"], "run": name, "protocol": "clean"}
    parquet.write_stamped(table, out, stamp, cohort.info.get("caveat"))
    return table


def _fold_samples(
    fold: folds.Fold,
    shift: pl.DataFrame,
    samples: pl.DataFrame,
    genes: pl.DataFrame,
    gene_sets: Sequence[str],
) -> FoldSamples:
    fold_shift = shift.filter(pl.col("fold") == fold.number)
    row_by_slide = {slide: row for row, slide in enumerate(fold_shift["slide_id"])}
    crps = dict(
        samples.filter(pl.col("fold") == fold.number).select("sample_id", "crps").iter_rows()
    )
    missing = [s for s in fold.test.slide_ids if s not in row_by_slide]
    missing += [s for s in fold.test.samples if s not in crps]
    if missing:
        cause = f"'{missing[0]}' of fold {fold.number} is missing"
        raise StageError("tables of shift and evaluate", cause, "rerun both stages")
    shift_rows = [row_by_slide[slide] for slide in fold.test.slide_ids]
    orders = {
        name: fold.test.average(fold_shift[column].cast(pl.Float64).to_numpy()[shift_rows])
        for name, column in ORDERS.items()
    }
    eligible = ~gene_metrics.is_flat(fold.train.truth)
    members = [
        eligible & (genes[f"in_{name}"].list.contains(fold.number).to_numpy())
        if name != "all"
        else eligible
        for name in gene_sets
    ]
    return FoldSamples(
        fold.number,
        fold.test.truth,
        fold.read("point", fold.test),
        np.array([crps[sample] for sample in fold.test.samples], dtype=float),
        fold.test.patient_ids,
        orders,
        np.stack(members, axis=1),
    )


def abstention_rows(
    tested: Sequence[FoldSamples],
    gene_sets: Sequence[str],
    resamples: int,
    permutations: int,
    seed: int,
) -> list[Row]:
    """Return the rows of the table, without orders that have missing values in any fold."""
    orders = [
        name
        for name in tested[0].orders
        if all(np.isfinite(fold.orders[name]).all() for fold in tested)
    ]
    scores_by_fold = [
        scores(fold, [*orders, ORACLE], resamples, permutations, seed)
        for fold in progress(tested, "abstention")
    ]
    has_crps = all(np.isfinite(fold.crps).all() for fold in tested)
    rows: list[Row] = []
    for metric, sign in SIGNS.items():
        if metric == "crps" and not has_crps:
            continue
        for column, gene_set in enumerate(gene_sets[:1] if metric == "crps" else gene_sets):
            genes = float(np.mean([fold.sets[:, column].sum() for fold in tested]))
            keys = {
                "metric": metric,
                "gene_set": gene_set,
                "n_patients": sum(len(set(fold.patient_ids)) for fold in tested),
                "n_genes": round(genes),
            }
            curves = {
                name: _over_folds(
                    [fold_scores[name][metric][:, :, column] for fold_scores in scores_by_fold],
                    tested,
                    metric,
                )
                for name in [*orders, ORACLE, RANDOM]
            }
            rows += [keys | row for row in _curve_rows(curves)] + [
                keys | row for row in _gain_rows(curves, sign, metric != "pcc")
            ]
    return rows


def _over_folds(parts: Sequence[Array], tested: Sequence[FoldSamples], metric: str) -> Array:
    """Average over the folds (R, S); a correlation needs more than three patients."""
    values, sizes = np.array(parts), np.array([len(fold.truth) for fold in tested])
    return np.stack(
        [
            comparison.over_folds(values[:, :, index], list(share * sizes), metric == "pcc")
            for index, share in enumerate(SHARES)
        ],
        axis=1,
    )


def _curve_rows(curves: dict[str, Array]) -> list[Row]:
    null = np.quantile(curves[RANDOM], BAND, axis=0)
    rows = []
    for name, values in curves.items():
        value, (low, high) = values[0], bootstrap.interval(values)
        if name == RANDOM:
            value, (low, high) = values.mean(axis=0), null
        for index, share in enumerate(SHARES):
            is_finite = bool(np.isfinite(value[index]))
            note = "" if is_finite else TOO_FEW_PATIENTS
            row = {"order": name, "share": float(share), "note": note}
            rows.append(row | _point_columns(value, low, high, null, index))
    return rows


def _point_columns(
    value: Array, low: Array, high: Array, null: Array, index: int
) -> dict[str, float]:
    return {
        "value": float(value[index]),
        "low": float(low[index]),
        "high": float(high[index]),
        "null_low": float(null[0][index]),
        "null_high": float(null[1][index]),
    }


def _gain_rows(curves: dict[str, Array], sign: int, is_error: bool) -> list[Row]:
    """Average each order's improvement over the shares below 1.

    `of_oracle` is the area between an order's curve and the mean random curve, divided by the
    oracle's area. It is None for a correlation, which falls whenever extremes are left out.
    """
    finite = np.isfinite(curves[RANDOM][0])
    if not finite[1:].any():
        return []
    gain = {
        name: sign * (values[:, finite][:, 1:] - values[:, :1]).mean(axis=1)
        for name, values in curves.items()
    }
    null = gain[RANDOM]
    middle = float(null.mean())
    best = float(gain[ORACLE][0]) - middle
    band = np.quantile(null, BAND)
    rows = []
    for name, values in gain.items():
        value, (low, high) = float(values[0]), bootstrap.interval(values)
        row: Row = {"order": name, "note": "gain: mean improvement over the shares"}
        # With few patients, a random order can equal this one; they then tie up to rounding.
        reached = (null >= value) | np.isclose(null, value, rtol=1e-5, atol=1e-6)
        row |= {"p": float((1 + np.count_nonzero(reached)) / (len(null) + 1))}
        if name == RANDOM:
            value, (low, high) = middle, band
            row["p"] = None
        row["of_oracle"] = (value - middle) / best if is_error and best > 0 else None
        row |= {"value": value, "low": float(low), "high": float(high)}
        rows.append(row | {"null_low": float(band[0]), "null_high": float(band[1])})
    return rows
