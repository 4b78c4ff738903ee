"""Small fold models and a predictor for tests of maps: colour features, 24 genes, 3 gene sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from slide2rna.core import config
from slide2rna.features import registry
from slide2rna.flow.velocity import RNAFM
from slide2rna.package.predictor import Predictor
from slide2rna.pathways.membership import Pathways

GENES = [f"G{number:02d}" for number in range(22)] + ["ERBB2", "erbb2-AS1"]
SETS = {"GO:1": [0, 1, 2, 3], "GO:2": [3, 4, 5], "GO:3": [22, 7]}
NAMES = {"GO:1": "first, with a comma", "GO:2": "second", "GO:3": "GO:3"}
DIM, K = 6, 4
SAMPLING = config.defaults("sample", draws=9, steps=3, mean_pairs=2)
BAGS = config.defaults("bags", k=K)


@dataclass(frozen=True)
class Member:
    number: int
    model: Any
    meta: dict[str, Any] = field(default_factory=lambda: {"features": DIM, "clusters": K})
    reference: None = None


def member(number: int = 0, seed: int = 5, linear_only: bool = False) -> Member:
    """A flow with random weights; `linear_only` leaves nothing but the ridge on the bag's mean."""
    torch.manual_seed(seed + number)
    settings = config.defaults(
        *("model",), hidden=16, blocks=1, heads=2, graph_heads=2, cluster_layers=1, factors=3
    )
    sets = Pathways(list(SETS), [np.array(sorted(own)) for own in SETS.values()], len(GENES))
    model = RNAFM(sets, DIM, K, settings)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.normal_(0, 0.25)
            if linear_only and name.startswith("final_layer"):
                value.zero_()
        model.loadings.normal_(0, 0.2)
        model.gene_mean.copy_(torch.linspace(5, 9, len(GENES)))
        model.gene_sd.fill_(0.8)
    return Member(number, model.eval())


def gene_table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "gene": GENES,
            "mean": np.linspace(5, 9, len(GENES)),
            "sd": np.full(len(GENES), 0.8),
            "r": np.linspace(0, 0.9, len(GENES)),
            "r_low": np.linspace(-0.1, 0.8, len(GENES)),
            "r_high": np.linspace(0.1, 0.95, len(GENES)),
            "reliability": ["weak"] * len(GENES),
        }
    )


def pathway_table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "pathway": list(SETS),
            "name": [NAMES[one] for one in SETS],
            "genes": [[GENES[row] for row in own] for own in SETS.values()],
            "r": [0.5, None, 0.1],
            "r_low": [0.2, None, -0.1],
            "r_high": [0.7, None, 0.3],
            "reliability": ["good", "unknown", "none"],
            "train_sd": [0.5, 0.4, 0.3],
        }
    )


class ColourPredictor(Predictor):
    """Reads slides with the colour encoder and counts how often it is asked for one."""

    asked = 0

    @property
    def key(self) -> str:  # type: ignore[override]
        return "model"

    def encoder(self, threads: int, weights: Any = None) -> registry.Encoder:
        type(self).asked += 1
        return registry.ColorEncoder()


def predictor(folds: int = 2, caveat: str | None = None) -> ColourPredictor:
    about = {
        "cohort": "small",
        "run": "color-flow-go-bp",
        "encoder": "color",
        "dim": DIM,
        "features": config.defaults("features", encoder="color"),
        "tiles": config.defaults("tiles", min_tiles=4),
        "bags": BAGS,
        "sample": SAMPLING,
        "seed": 3,
        "pathway_score": "zscore",
        "alpha": 0.05,
        "levels": [],
        "caveat": caveat,
    }
    members: Any = [member(number) for number in range(folds)]
    return ColourPredictor(
        Path("model"),
        about,
        members,
        GENES,
        gene_table(),
        pathway_table(),
        pl.DataFrame(),
        torch.device("cpu"),
    )
