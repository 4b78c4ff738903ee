"""Model registry: a new model needs a module, and a line in one of the registries below.

Closed-form models are fitted in seconds inside the evaluation, by `fit(train, val, seed, fold)`.
Networks are classes that the stage train fits, one job per fold. The registries refer to models by
name, so that listing models imports none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from slide2rna.data.patients import Part
from slide2rna.models.base import FittedModel

CLOSED_FORM = {
    "constant": "slide2rna.models.nulls:constant",
    "site-mean": "slide2rna.models.nulls:site_mean",
    "color-ridge": "slide2rna.models.nulls:color_ridge",
    "ridge": "slide2rna.models.ridge:fit",
    "ridge-lowrank": "slide2rna.models.low_rank:fit",
    "permuted": "slide2rna.models.nulls:permuted",
    "memoriser": "slide2rna.models.nulls:memoriser",
}
NETWORKS = {
    "he2rna": "slide2rna.models.he2rna:HE2RNA",
    "trnasformer": "slide2rna.models.trnasformer:TRNAsformer",
    "sequoia": "slide2rna.models.sequoia:SEQUOIA",
    "abmil": "slide2rna.models.abmil:ABMIL",
}

# Models evaluated together with every network; only the leak audit uses the memoriser.
BASELINES = ("constant", "site-mean", "color-ridge", "ridge", "ridge-lowrank", "permuted")
RIDGES = ("ridge", "ridge-lowrank")
# Models without morphology. A model that doesn't beat them has learned nothing.
NULLS = ("constant", "site-mean", "color-ridge", "permuted")


def load(target: str) -> Any:
    """Import the object that `module:attribute` names."""
    module, attribute = target.split(":")
    return getattr(import_module(module), attribute)


def fit(name: str, train: Part, val: Part, seed: int, fold: int) -> FittedModel:
    """Fit a closed-form model on train; val chooses its penalty, if it has one.

    Raises
    ------
    KeyError
        No closed-form model has this name.
    Unavailable
        It can't be fitted to these slides.
    """
    fitted: FittedModel = load(CLOSED_FORM[name])(train, val, seed, fold)
    return fitted
