"""Tables per gene, pathway and sample."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse, stats

from slide2rna import bootstrap, draws, io, metrics
from slide2rna.scoring import Evaluated

Array = NDArray[np.floating]


def gene_table(found: Evaluated) -> pl.DataFrame:
    """A row per gene: correlation with interval and FDR, errors, calibration, set membership."""
    comparison, folds = found.comparison, found.inputs
    patients_of = np.array([len(fold.truth) for fold in folds])
    z = np.arctanh(np.clip(comparison.gene_r, -1 + 1e-7, 1 - 1e-7))
    p = stats.norm.sf(z * np.sqrt(comparison.weight))
    truth = np.concatenate([fold.truth for fold in folds])
    # Errors of all patients, so that folds of different size weigh as their patients do.
    squared = {
        name: (values**2 * patients_of[:, None]).sum(axis=0)
        for name, values in comparison.rmse.items()
    }
    constant = squared["constant"]
    level = int(np.argmin(np.abs(found.draws[0].levels - 0.9)))
    hits = sum(scored.covered_gene[level] for scored in found.draws)
    table = {
        "gene": found.cohort.genes,
        "r": comparison.gene_r,
        "r_low": comparison.gene_low,
        "r_high": comparison.gene_high,
        "p": p,
        "fdr": metrics.benjamini_hochberg(p),
        "rmse": np.sqrt(squared[found.model] / patients_of.sum()),
        "rmse_ratio": np.sqrt(squared[found.model] / np.where(constant > 0, constant, np.nan)),
        "crps": np.concatenate([scored.crps for scored in found.draws]).mean(axis=0),
        "mean": truth.mean(axis=0),
        "sd": truth.std(axis=0),
        "covered90": hits / patients_of.sum(),
        "width90": np.average(
            [scored.width[level] for scored in found.draws], axis=0, weights=patients_of
        ),
        "flat_prediction": np.any(
            [metrics.is_flat(fold.test[found.model]) for fold in folds], axis=0
        ),
        "constant_in_train": ~np.all([fold.eligible for fold in folds], axis=0),
    }
    for name, r in comparison.r.items():
        if name not in (found.model, "constant"):
            table[f"r_{name}"] = metrics.fisher_combine(r, patients_of)[0]
    table["r_floor"] = _floor_r(found, patients_of)
    frame = pl.DataFrame(table).with_columns(pl.selectors.float().cast(pl.Float64).fill_nan(None))
    for column, k in enumerate(found.sizes, start=1):
        inside = np.array([fold.sets[found.model][:, column] for fold in folds])
        numbers = np.array([fold.number for fold in found.folds])
        lists = [numbers[row].tolist() for row in inside.T]
        frame = frame.with_columns(pl.Series(f"in_T{k}", lists, dtype=pl.List(pl.Int64)))
    return frame.with_columns(pl.lit(int(patients_of.sum())).alias("n_samples"))


def _floor_r(found: Evaluated, patients_of: Array) -> Array:
    """Correlations of one permutation of the test profiles, combined as the real ones are."""
    rows = []
    for fold, given, r in zip(
        found.folds, found.inputs, found.comparison.r[found.model], strict=True
    ):
        rng = io.rng_for(found.seed, "floor", fold.number)
        order = rng.permutation(len(given.truth))
        permuted, _ = metrics.pcc(given.test[found.model], given.truth[order])
        rows.append(np.where(np.isfinite(r), permuted, np.nan))
    return metrics.fisher_combine(np.array(rows), patients_of)[0]


def pathway_table(
    found: Evaluated, names: pl.DataFrame, members: sparse.csr_matrix
) -> pl.DataFrame:
    """A row per pathway: its score (mean z of its genes) and its genes' mean correlation."""
    patients_of = np.array([len(fold.truth) for fold in found.inputs])
    boot: dict[str, list[Array]] = {}
    squared, inside = [], []
    for given, scored, (mean, sd) in zip(found.inputs, found.draws, found.train, strict=True):
        scale = np.where(given.eligible, 1.0 / np.where(given.eligible, sd, 1.0), 0.0)
        standardiser = draws.Standardiser(mean, scale, members)
        truth = standardiser.score(given.truth.T).T
        correlate = bootstrap.PccBootstrap(given.counts, truth)
        point = standardiser.score(given.test[found.model].T).T
        boot.setdefault("point", []).append(correlate(point))
        boot.setdefault("draws", []).append(correlate(scored.score)[:1])
        ridge = standardiser.score(given.test["ridge"].T).T
        boot.setdefault("ridge", []).append(correlate(ridge)[:1])
        squared.append((point - truth) ** 2)
        inside.append(scored.score_covered)
    combined = {
        name: metrics.fisher_combine(np.stack(values), patients_of)[0]
        for name, values in boot.items()
    }
    low, high = bootstrap.interval_r(combined["point"])
    genes_low, genes_high = bootstrap.interval(found.comparison.pathway)
    columns = {
        "r": combined["point"][0],
        "r_low": low,
        "r_high": high,
        "r_draw_mean": combined["draws"][0],
        "r_ridge": combined["ridge"][0],
        "rmse": np.sqrt(np.concatenate(squared).mean(axis=0)),
        "covered90": np.concatenate(inside).mean(axis=0),
        "r_genes": found.comparison.pathway[0],
        "r_genes_low": genes_low,
        "r_genes_high": genes_high,
    }
    frame = names.with_columns(
        *(pl.Series(name, np.asarray(values, dtype=float)) for name, values in columns.items()),
        pl.lit(int(patients_of.sum())).alias("n_samples"),
    )
    return frame.with_columns(pl.selectors.float().fill_nan(None)).sort(
        "r", "pathway", descending=[True, False], nulls_last=True
    )


def sample_table(found: Evaluated) -> pl.DataFrame:
    """A row per scored sample: its fold, slides, tiles, and its own errors and coverage."""
    cohort, rows = found.cohort, []
    patient = dict(cohort.slides.select("sample_id", "patient_id").iter_rows())
    for fold, given, scored in zip(found.folds, found.inputs, found.draws, strict=True):
        level = int(np.argmin(np.abs(scored.levels - 0.9)))
        error = (given.test[found.model] - given.truth)[:, given.eligible]
        for row, sample in enumerate(fold.test.samples):
            slides = np.flatnonzero(fold.test.pool[row])
            rows.append(
                {
                    "sample_id": sample,
                    "patient_id": patient[sample],
                    "fold": fold.number,
                    "site": fold.test.sites[slides[0]],
                    "n_slides": len(slides),
                    "n_tiles": int(cohort.bags.n_tiles[fold.test.bag_rows[slides]].sum()),
                    "rmse": float(np.sqrt((error[row] ** 2).mean())),
                    "crps": float(scored.crps[row, given.eligible].mean()),
                    "covered90": float(scored.covered[level, row, 0]),
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None).sort("sample_id", "fold")


def example_table(found: Evaluated) -> pl.DataFrame:
    """Measured and predicted values of the genes that val ranks best, for the figure."""
    rows = []
    for fold, given, scored in zip(found.folds, found.inputs, found.draws, strict=True):
        for index, gene in enumerate(found.examples):
            rows.append(
                pl.DataFrame(
                    {
                        "gene": found.cohort.genes[gene],
                        "rank": index + 1,
                        "sample_id": fold.test.samples,
                        "fold": fold.number,
                        "measured": given.truth[:, gene],
                        "point": given.test[found.model][:, gene],
                        "low90": scored.example_low[:, index],
                        "high90": scored.example_high[:, index],
                    }
                )
            )
    return pl.concat(rows).sort("rank", "sample_id")
