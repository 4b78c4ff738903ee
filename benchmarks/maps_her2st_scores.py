"""Scores of maps_her2st.py: agreement with the measured spots by gene and set, beside nulls."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from slide2rna.evaluation.metrics import spatial

BOOTSTRAPS = 500
SEED = 1


class Maps(NamedTuple):
    """One section: where its spots are, what was measured and what each model predicts there."""

    name: str
    grid: np.ndarray  # (n, 2) array steps
    blocks: np.ndarray  # (n,) region of each spot
    genes: list[str]
    sets: dict[str, np.ndarray]  # columns
    measured: np.ndarray  # (n, G)
    predicted: dict[str, np.ndarray]  # (n, G)
    lost: int  # spots without a tile
    first: str  # the gene with the clearest structure in the train sections


def gene_rows(of: Maps) -> pl.DataFrame:
    """Per gene and model: r over spots, Moran's I measured and predicted."""
    near = spatial.neighbours(of.grid)
    measured_i = spatial.morans_i(of.measured, near)
    member = {name: np.isin(np.arange(len(of.genes)), rows) for name, rows in of.sets.items()}
    return pl.concat(
        pl.DataFrame(
            {
                "section": of.name,
                "model": model,
                "gene": of.genes,
                "n_spots": len(of.grid),
                "r": spatial.correlation(values, of.measured),
                "moran_measured": measured_i,
                "moran_predicted": spatial.morans_i(values, near),
                **member,
            }
        )
        for model, values in of.predicted.items()
    )


def scores(of: Maps, name: str) -> dict[str, Any]:
    """Mean r of each model on one gene set of one section, with what its nulls give."""
    rows = of.sets[name]
    measured, models = of.measured[:, rows], list(of.predicted)
    predicted = [of.predicted[model][:, rows] for model in models]
    return {
        "models": models,
        "n_spots": len(of.grid),
        "n_genes": len(rows),
        "r": [float(spatial.correlation(p, measured).mean()) for p in predicted],
        "boot": spatial.block_bootstrap(predicted, measured, of.blocks, SEED, BOOTSTRAPS),
        "permuted": [spatial.permuted(p, measured, SEED) for p in predicted],
        "shifted": [spatial.shifted(p, measured, of.grid) for p in predicted],
    }


def summarise(found: list[Maps], genes: pl.DataFrame) -> pl.DataFrame:
    """Return a row per section (and all), gene set and model; `over_color` compares the two."""
    table = []
    for name in found[0].sets:
        each = {of.name: scores(of, name) for of in found}
        for section in [*each, "all"]:
            own = list(each.values()) if section == "all" else [each[section]]
            boot = np.mean([one["boot"] for one in own], axis=0)
            colour = own[0]["models"].index("color-ridge")
            for place, model in enumerate(own[0]["models"]):
                rows = genes.filter(pl.col("model") == model, pl.col(name))
                rows = rows if section == "all" else rows.filter(pl.col("section") == section)
                r = float(np.mean([one["r"][place] for one in own]))
                null = np.mean([one["permuted"][place] for one in own], axis=0)
                moved = np.concatenate([one["shifted"][place] - one["r"][place] for one in own])
                over = boot[:, place] - boot[:, colour]
                table.append(
                    {
                        "section": section,
                        "gene_set": name,
                        "model": model,
                        "n_spots": sum(one["n_spots"] for one in own),
                        "n_genes": own[0]["n_genes"],
                        "r": r,
                        **_interval(boot[:, place], ""),
                        **_interval(null, "permuted_"),
                        "shift_p": float((1 + (moved >= 0).sum()) / (1 + len(moved))),
                        "n_shifts": len(moved),
                        "over_color": r - float(np.mean([one["r"][colour] for one in own])),
                        **_interval(over, "over_color_"),
                        "moran_measured": rows["moran_measured"].fill_nan(None).mean(),
                        "moran_predicted": rows["moran_predicted"].fill_nan(None).mean(),
                    }
                )
    return pl.DataFrame(table)


def _interval(values: np.ndarray, prefix: str) -> dict[str, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return {f"{prefix}low": float(low), f"{prefix}high": float(high)}
