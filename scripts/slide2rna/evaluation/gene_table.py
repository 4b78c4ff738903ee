"""Gene table: every gene's scores by model, its calibration, site share and pathways."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy import sparse

from slide2rna.core import seeds
from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import gene_metrics, within_site
from slide2rna.evaluation.scoring import correlation_tests
from slide2rna.evaluation.scoring.evaluated import Evaluated

SHOWN_PATHWAYS = 10
DRAW_COLUMNS = ("crps", "covered90", "width90")


def gene_table(evaluated: Evaluated) -> pl.DataFrame:
    """Return a row per gene: correlation with interval and FDR, errors, calibration, gene sets.

    p and FDR are null if a patient has several samples.
    """
    comparison, folds = evaluated.comparison, evaluated.predictions
    samples_per_fold = np.array([len(fold.truth) for fold in folds])
    truths, points = zip(*((fold.truth, fold.test[evaluated.model]) for fold in folds), strict=True)
    p = correlation_tests.above_zero(
        truths, points, comparison.r[evaluated.model], correlation_tests.has_repeated_samples(folds)
    )
    truth = np.concatenate(truths)
    # Errors of all patients: a fold weighs as much as it has patients.
    squared = {
        name: (values**2 * samples_per_fold[:, None]).sum(axis=0)
        for name, values in comparison.rmse.items()
        if name in (evaluated.model, "constant")
    }
    constant = squared["constant"]
    table = {
        "gene": evaluated.cohort.genes,
        "r": comparison.gene_r,
        "r_low": comparison.gene_low,
        "r_high": comparison.gene_high,
        "p": p,
        "fdr": gene_metrics.benjamini_hochberg(p),
        "rmse": np.sqrt(squared[evaluated.model] / samples_per_fold.sum()),
        "rmse_ratio": np.sqrt(squared[evaluated.model] / np.where(constant > 0, constant, np.nan)),
        "mean": truth.mean(axis=0),
        "sd": truth.std(axis=0),
        "flat_prediction": np.any(
            [gene_metrics.is_flat(fold.test[evaluated.model]) for fold in folds], axis=0
        ),
        "constant_in_train": ~np.all([fold.eligible for fold in folds], axis=0),
    }
    table |= _draw_columns(evaluated, samples_per_fold)
    for name, r in comparison.r.items():
        if name not in (evaluated.model, "constant"):
            table[f"r_{name}"] = gene_metrics.fisher_combine(r, samples_per_fold)[0]
    table["r_floor"] = _permuted_r(evaluated, samples_per_fold)
    effective = np.array([fold.sites.effective for fold in folds])
    table["r_within_site"] = gene_metrics.fisher_combine(comparison.within, effective)[0]
    table["site_share"] = _site_share(evaluated)
    for (model, null), pair_p in evaluated.p_better.items():
        if model == evaluated.model:
            table[f"p_minus_{null}"] = pair_p
            table[f"fdr_minus_{null}"] = gene_metrics.benjamini_hochberg(pair_p)
    frame = pl.DataFrame(table).with_columns(pl.selectors.float().cast(pl.Float64).fill_nan(None))
    for column, k in enumerate(evaluated.set_sizes, start=1):
        inside = np.array([fold.sets[evaluated.model][:, column] for fold in folds])
        numbers = np.array([fold.number for fold in evaluated.folds])
        lists = [numbers[row].tolist() for row in inside.T]
        frame = frame.with_columns(pl.Series(f"in_T{k}", lists, dtype=pl.List(pl.Int64)))
    return frame.with_columns(
        *_pathway_columns(evaluated.pathway_names, evaluated.pathway_members),
        pl.lit(int(samples_per_fold.sum())).alias("n_samples"),
    )


def _draw_columns(evaluated: Evaluated, samples_per_fold: Array) -> dict[str, Array]:
    """Return CRPS, coverage and width per gene; NaN without draws."""
    if not evaluated.draw_scores:
        return {name: np.full(len(evaluated.cohort.genes), np.nan) for name in DRAW_COLUMNS}
    level = int(np.argmin(np.abs(evaluated.draw_scores[0].levels - 0.9)))
    widths = [draws.width[level] for draws in evaluated.draw_scores]
    hits = sum(draws.covered_gene[level] for draws in evaluated.draw_scores)
    values = (
        np.concatenate([draws.crps for draws in evaluated.draw_scores]).mean(axis=0),
        hits / samples_per_fold.sum(),
        np.average(widths, axis=0, weights=samples_per_fold),
    )
    return dict(zip(DRAW_COLUMNS, values, strict=True))


def _site_share(evaluated: Evaluated) -> Array:
    """Return the adjusted share of variance that site explains, over all samples with slides."""
    slides = evaluated.cohort.slides.unique("sample_id", keep="first", maintain_order=True)
    rows = [evaluated.cohort.row[sample] for sample in slides["sample_id"]]
    return within_site.site_share(evaluated.cohort.truth[rows], list(slides["site"]))


def _pathway_columns(names: pl.DataFrame, members: sparse.csr_matrix) -> list[pl.Series]:
    """Return the names of each gene's pathways, smallest pathway first, and their number."""
    columns = members.tocsc()
    order = np.lexsort((names["pathway"].to_numpy(), names["n_genes"].to_numpy()))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    labels = np.array(names["name"].to_list(), dtype=object)[order]
    lists, counts = [], np.diff(columns.indptr)
    for start, stop in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
        gene_ranks = np.sort(rank[columns.indices[start:stop]])
        lists.append(labels[gene_ranks[:SHOWN_PATHWAYS]].tolist())
    return [
        pl.Series("pathways", lists, dtype=pl.List(pl.String)),
        pl.Series("n_pathways", counts, dtype=pl.Int64),
    ]


def _permuted_r(evaluated: Evaluated, samples_per_fold: Array) -> Array:
    """Return correlations with one permutation of the test profiles, combined over folds."""
    rows = []
    for fold, predictions, r in zip(
        evaluated.folds, evaluated.predictions, evaluated.comparison.r[evaluated.model], strict=True
    ):
        rng = seeds.rng_for(evaluated.seed, "floor", fold.number)
        order = rng.permutation(len(predictions.truth))
        permuted, _ = gene_metrics.pcc(predictions.test[evaluated.model], predictions.truth[order])
        rows.append(np.where(np.isfinite(r), permuted, np.nan))
    return gene_metrics.fisher_combine(np.array(rows), samples_per_fold)[0]
