"""Which runs a cohort has: its models, their repeats with other seeds, and the ablations.

A run is `<encoder>-<label>-<pathway set>`; the label is a model's name or `model.variant`. The
Snakefile reads this while it is parsed: nothing heavy is imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slide2rna import config as configuration
from slide2rna.config import Settings
from slide2rna.errors import ConfigError

FLOW = "flow"
VARIED = ("features", "pathways", "model", "train", "sample")


@dataclass(frozen=True)
class Run:
    """A model on a cohort.

    Attributes
    ----------
    model : its name.
    variant : name of an ablation, `seed-N`, or empty.
    encoder, pathways : names of the features and of the gene sets, as in paths.
    seed : of training and sampling.
    settings : sections of the config, with the variant's changes.
    trained : name of the run whose networks it samples; its own, unless only sampling differs.
    """

    model: str
    variant: str
    encoder: str
    pathways: str
    seed: int
    settings: dict[str, Any]
    trained: str = ""

    @property
    def label(self) -> str:
        return f"{self.model}.{self.variant}" if self.variant else self.model

    @property
    def name(self) -> str:
        return f"{self.encoder}-{self.label}-{self.pathways}"

    def network(self) -> Settings:
        """The settings of its network: section model, or the object of section baselines."""
        found = self.settings["model"]
        return found if self.model == FLOW else self.settings["baselines"][self.model]

    def search(self) -> list[Settings]:
        """What further configurations change.

        Raises
        ------
        ConfigError
            The model hasn't so many.
        """
        listed = (self.settings["train"] if self.model == FLOW else self.network())["search"]
        wanted = self.settings["search"] - 1
        if wanted > len(listed):
            raise ConfigError(
                f"search: {self.settings['search']}",
                f"{self.model} has {1 + len(listed)} configurations",
                "lower it, or add to the model's own list search",
            )
        return list(listed[:wanted])


def slug(text: str) -> str:
    """A file name's stem or a word, as part of a run's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(text).name.split(".")[0]).strip("-").lower()


def compared(config: dict[str, Any], cohort: str) -> list[Run]:
    """The models of a cohort and their repeats; the first is the one that is reported."""
    settings = configuration.for_cohort(config, cohort)
    seed = config["seed"]
    found = []
    for number in range(settings["seeds"]):
        variant = f"seed-{seed + number}" if number else ""
        for model in settings["models"]:
            run = Run(
                model,
                variant,
                slug(settings["features"]["encoder"]),
                slug(settings["pathways"]["source"]),
                seed + number,
                settings,
            )
            found.append(replace(run, trained=run.name))
    return found


def ablations(config: dict[str, Any], cohort: str) -> dict[str, Run]:
    """The variants of a cohort's first model, by the name of the ablation."""
    base = compared(config, cohort)[0]
    return {
        name: _varied(base, name, changes) for name, changes in base.settings["ablations"].items()
    }


def _varied(base: Run, variant: str, changes: dict[str, Any]) -> Run:
    own = {section: changes[section] for section in VARIED if section in changes}
    settings = dict(base.settings)
    for section, values in own.items():
        settings[section] = base.settings[section] | values
    encoder, sets = base.encoder, base.pathways
    if "features" in own:
        encoder = slug(settings["features"]["encoder"])
        if encoder != base.encoder:  # weights and files of one encoder aren't another's
            empty = {"weights": None, "path": None}
            settings["features"] = settings["features"] | empty | own["features"]
        elif own["features"]:
            encoder = f"{encoder}.{variant}"
    if "pathways" in own:
        sets = slug(settings["pathways"]["source"])
        if own["pathways"].keys() - {"source"}:
            sets = f"{sets}.{variant}"
    run = Run(base.model, variant, encoder, sets, base.seed, settings)
    return replace(run, trained=base.name if own.keys() == {"sample"} else run.name)
