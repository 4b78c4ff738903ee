"""Predictions of slides as `predict.predict` gives them, without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from slide2rna.predict.predict import Prediction
from slide2rna.studies.shift.decision import ALIKE, CAL, TRAIN, UNDECIDED, UNLIKE

ABOUT: dict[str, Any] = {
    "format": 1,
    "packaged": True,
    "cohort": "LUAD",
    "run": "uni-flow-go-bp",
    "model": "flow",
    "encoder": "uni",
    "tiles": {"mpp": 0.5, "tile_px": 256},
    "bags": {"k": 100, "iterations": 25},
    "sample": {"draws": 100, "solver": "exponential", "steps": 20, "guidance": 1.0},
    "seed": 1,
    "folds": [0, 1],
    "pathway_score": "zscore",
    "alpha": 0.05,
    "levels": [0.5, 0.9],
    "caveat": None,
    "reliability": {"genes": "RULE OF GENES", "pathways": "RULE OF PATHWAYS"},
    "data": {
        **{"n_patients": 300, "n_slides": 340, "n_sites": 4, "source": "gdc"},
        **{"split_unit": "patient"},
    },
    "version": "0.1.0",
}
# A folder of fold models alone: no test results, no cohort.
BARE = ABOUT | {"cohort": None, "tiles": None, "levels": [], "packaged": False}
BARE = {key: value for key, value in BARE.items() if key not in ("reliability", "data", "model")}


def shift(shifted: bool | None, judged_by: str = TRAIN) -> dict[str, Any]:
    words = {True: f"{UNLIKE} (so far): don't rely on it.", False: f"{ALIKE}.", None: "Unknown."}
    found: dict[str, Any] = {"shifted": shifted, "judged_by": judged_by, "alpha": 0.05}
    found |= {"words": words[shifted], "folds": [{"fold": 0}, {"fold": 1}], "n_cal": 3}
    found |= {"n_train": 26, "bag_distance": 1.5, "train_distance": 0.5}
    far = {"bag_p": 0.5, "bag_share": 0.0, "expression_p": 0.8, "expression_share": 0.0}
    far |= {"bag_p_train": 0.074, "bag_train_share": 1.0 if shifted else 0.0}
    if judged_by == CAL:
        far |= {"bag_p": 0.02 if shifted else 0.4}
    if judged_by == UNDECIDED:
        far = dict.fromkeys(far)
        found |= {"folds": [], "bag_distance": None, "train_distance": None}
    return found | far


def gene_rows(count: int, draws: bool, conformal: bool) -> pl.DataFrame:
    """Genes whose train mean is 5 and sd 0.5; the first three never vary, unknown, and good."""
    mean = 5 + np.linspace(-1, 1, count)
    nothing = pl.Series([None] * count, dtype=pl.Float64)
    words = ["none", "unknown", "good", *("weak" if i % 2 else "none" for i in range(3, count))]
    r = pl.Series([0.3 if word in ("good", "weak") else 0.01 for word in words])
    return pl.DataFrame(
        {
            "gene": [f"GENE{i}" for i in range(count)],
            "mean": mean,
            "sd": np.full(count, 0.4) if draws else nothing,
            **{q: mean + d if draws else nothing for q, d in (("q05", -1), ("q50", 0), ("q95", 1))},
            "point": mean + 0.01,
            "low90": mean - 0.8 if conformal else nothing,
            "high90": mean + 0.8 if conformal else nothing,
            "r": r,
            "r_low": r - 0.1,
            "r_high": r + 0.1,
            "reliability": words,
            "train_mean": np.full(count, 5.0),
            "train_sd": [0.0, *[0.5] * (count - 1)],
        }
    ).with_columns(
        pl.when(pl.col("reliability") == "unknown").then(None).otherwise(pl.col(name)).alias(name)
        for name in ("r", "r_low", "r_high")
    )


def pathway_rows(reliabilities: list[str], draws: bool = True) -> pl.DataFrame:
    """Pathway i lies i tenths of a train sd (0.5) above the train mean 0.2, with odd ones below."""
    count = len(reliabilities)
    z = np.array([(i if i % 2 == 0 else -i) / 10 for i in range(count)])
    mean = 0.2 + 0.5 * z
    nothing = pl.Series([None] * count, dtype=pl.Float64)
    return pl.DataFrame(
        {
            "pathway": [f"GO:{i:07d}" for i in range(count)],
            "name": [f"process <{i}>" for i in range(count)],
            "n_genes": [10 + i for i in range(count)],
            "mean": mean,
            "sd": np.full(count, 0.1) if draws else nothing,
            **{
                q: mean + d if draws else nothing
                for q, d in (("q05", -0.25), ("q50", 0), ("q95", 0.25))
            },
            "train_mean": np.full(count, 0.2),
            "train_sd": np.full(count, 0.5),
            "z": z,
            "r": np.full(count, 0.4),
            "r_low": np.full(count, 0.2),
            "r_high": np.full(count, 0.6),
            "reliability": reliabilities,
        }
    )


def make(
    shifted: bool | None = True,
    judged_by: str = TRAIN,
    draws: bool = True,
    conformal: bool = False,
    words: list[str] | None = None,
    genes: int = 40,
    **facts: Any,
) -> Prediction:
    """A prediction; `words` are the pathways' reliabilities."""
    own = shift(shifted, judged_by)
    known = {"source": "slide", "mpp": 0.25, "mpp_source": "slide", "mpp_note": None}
    known |= {"width_px": 40_000, "height_px": 20_000, "vendor": "aperio", "power": 40.0}
    known |= {"n_candidates": 900, "n_tissue": 350, "n_tiles": 345, "n_rejected": 5, "key": "ab12"}
    known |= {"folds": 2, "seed": 1, "draws_per_fold": 100 * draws, "draws": 200 * draws}
    warned = [own["words"]] if own["shifted"] is not False else []
    return Prediction(
        "slide <1>",
        gene_rows(genes, draws, conformal),
        pathway_rows(
            ["good"] * 3 + ["weak"] * 3 + ["none"] * 20 if words is None else words, draws
        ),
        own,
        known | facts,
        [*warned, "Only 345 tiles."],
    )
