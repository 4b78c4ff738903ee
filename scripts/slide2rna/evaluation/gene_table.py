"""The catalogue of genes: how well each is predicted, by whom, and what else is known of it."""

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
DRAWN = ("crps", "covered90", "width90")


def gene_table(found: Evaluated) -> pl.DataFrame:
    """A row per gene: correlation with interval and FDR, errors, calibration, set membership.

    p and FDR are null where a patient has several samples.
    """
    comparison, folds = found.comparison, found.inputs
    patients_of = np.array([len(fold.truth) for fold in folds])
    truths, points = zip(*((fold.truth, fold.test[found.model]) for fold in folds), strict=True)
    p = correlation_tests.above_zero(
        truths, points, comparison.r[found.model], correlation_tests.repeated(folds)
    )
    truth = np.concatenate(truths)
    # Errors of all patients, so that folds of different size weigh as their patients do.
    squared = {
        name: (values**2 * patients_of[:, None]).sum(axis=0)
        for name, values in comparison.rmse.items()
        if name in (found.model, "constant")
    }
    constant = squared["constant"]
    table = {
        "gene": found.cohort.genes,
        "r": comparison.gene_r,
        "r_low": comparison.gene_low,
        "r_high": comparison.gene_high,
        "p": p,
        "fdr": gene_metrics.benjamini_hochberg(p),
        "rmse": np.sqrt(squared[found.model] / patients_of.sum()),
        "rmse_ratio": np.sqrt(squared[found.model] / np.where(constant > 0, constant, np.nan)),
        "mean": truth.mean(axis=0),
        "sd": truth.std(axis=0),
        "flat_prediction": np.any(
            [gene_metrics.is_flat(fold.test[found.model]) for fold in folds], axis=0
        ),
        "constant_in_train": ~np.all([fold.eligible for fold in folds], axis=0),
    }
    table |= _of_draws(found, patients_of)
    for name, r in comparison.r.items():
        if name not in (found.model, "constant"):
            table[f"r_{name}"] = gene_metrics.fisher_combine(r, patients_of)[0]
    table["r_floor"] = _floor_r(found, patients_of)
    effective = np.array([fold.sites.effective for fold in folds])
    table["r_within_site"] = gene_metrics.fisher_combine(comparison.within, effective)[0]
    table["site_share"] = _site_share(found)
    for (model, null), of_pair in found.better.items():
        if model == found.model:
            table[f"p_minus_{null}"] = of_pair
            table[f"fdr_minus_{null}"] = gene_metrics.benjamini_hochberg(of_pair)
    frame = pl.DataFrame(table).with_columns(pl.selectors.float().cast(pl.Float64).fill_nan(None))
    for column, k in enumerate(found.sizes, start=1):
        inside = np.array([fold.sets[found.model][:, column] for fold in folds])
        numbers = np.array([fold.number for fold in found.folds])
        lists = [numbers[row].tolist() for row in inside.T]
        frame = frame.with_columns(pl.Series(f"in_T{k}", lists, dtype=pl.List(pl.Int64)))
    return frame.with_columns(
        *_pathways_of(found.names, found.members), pl.lit(int(patients_of.sum())).alias("n_samples")
    )


def _of_draws(found: Evaluated, patients_of: Array) -> dict[str, Array]:
    """CRPS, coverage and width per gene; unknown without draws."""
    if not found.draws:
        return {name: np.full(len(found.cohort.genes), np.nan) for name in DRAWN}
    level = int(np.argmin(np.abs(found.draws[0].levels - 0.9)))
    widths = [scored.width[level] for scored in found.draws]
    hits = sum(scored.covered_gene[level] for scored in found.draws)
    values = (
        np.concatenate([scored.crps for scored in found.draws]).mean(axis=0),
        hits / patients_of.sum(),
        np.average(widths, axis=0, weights=patients_of),
    )
    return dict(zip(DRAWN, values, strict=True))


def _site_share(found: Evaluated) -> Array:
    """Adjusted share of variance explained by site, over all samples that have slides."""
    slides = found.cohort.slides.unique("sample_id", keep="first", maintain_order=True)
    rows = [found.cohort.row[sample] for sample in slides["sample_id"]]
    return within_site.site_share(found.cohort.truth[rows], list(slides["site"]))


def _pathways_of(names: pl.DataFrame, members: sparse.csr_matrix) -> list[pl.Series]:
    """Names of each gene's pathways, the smallest first, and their number."""
    columns = members.tocsc()
    order = np.lexsort((names["pathway"].to_numpy(), names["n_genes"].to_numpy()))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    labels = np.array(names["name"].to_list(), dtype=object)[order]
    lists, counts = [], np.diff(columns.indptr)
    for start, stop in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
        own = np.sort(rank[columns.indices[start:stop]])
        lists.append(labels[own[:SHOWN_PATHWAYS]].tolist())
    return [
        pl.Series("pathways", lists, dtype=pl.List(pl.String)),
        pl.Series("n_pathways", counts, dtype=pl.Int64),
    ]


def _floor_r(found: Evaluated, patients_of: Array) -> Array:
    """Correlations of one permutation of the test profiles, combined as the real ones are."""
    rows = []
    for fold, given, r in zip(
        found.folds, found.inputs, found.comparison.r[found.model], strict=True
    ):
        rng = seeds.rng_for(found.seed, "floor", fold.number)
        order = rng.permutation(len(given.truth))
        permuted, _ = gene_metrics.pcc(given.test[found.model], given.truth[order])
        rows.append(np.where(np.isfinite(r), permuted, np.nan))
    return gene_metrics.fisher_combine(np.array(rows), patients_of)[0]
