"""Which runs a cohort has: its models, their repeats with other seeds, and the ablations.

A run is `<encoder>-<label>-<pathway set>`; the label is a model's name or `model.variant`. The
Snakefile reads this while it is parsed: nothing heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slide2rna.core.config import Settings, for_cohort, overlay
from slide2rna.core.errors import ConfigError
from slide2rna.flow.one_step import ONE_STEP

STUDENT = "one-step"
FLOW = "flow"
# What an ablation may change: of the flow, and of a network that has neither draws nor gene sets.
VARIED = ("features", "pathways", "model", "train", "sample")
VARIED_NETWORK = ("features", "baselines")
# Of section train, what other networks than the flow don't read.
FLOW_ALONE = ("interpolant", "val_noise")


@dataclass(frozen=True)
class PlannedRun:
    """A model on a cohort.

    Attributes
    ----------
    model : its name.
    variant : name of an ablation, `seed-N`, or empty.
    encoder, pathways : names of the features and of the gene sets, as in paths.
    seed : of training and sampling.
    settings : sections of the config, with the variant's changes.
    trained : name of the run whose networks it samples; its own, unless only sampling differs.
    fixed : keys of training that an ablation sets, which its search must leave alone.
    """

    model: str
    variant: str
    encoder: str
    pathways: str
    seed: int
    settings: dict[str, Any]
    trained: str = ""
    fixed: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        return f"{self.model}.{self.variant}" if self.variant else self.model

    @property
    def name(self) -> str:
        return f"{self.encoder}-{self.label}-{self.pathways}"

    def network(self) -> Settings:
        """The settings of its network: section model, or the object of section baselines."""
        return network_of(self.model, self.settings)

    def training(self) -> Settings:
        """Section train, as far as its network reads it."""
        return training_of(self.model, self.settings)

    def sampling(self) -> Settings:
        """Section sample; a network without draws reads none of it."""
        return self.settings["sample"] if self.model == FLOW else {}

    def search(self) -> list[Settings]:
        """What further configurations change, each once.

        Raises
        ------
        ConfigError
            The model hasn't so many.
        """
        own = self.settings["baselines"]
        listed = (self.settings["train"] if self.model == FLOW else own[self.model])["search"]
        wanted = self.settings["search"] - 1
        if wanted > len(listed):
            raise ConfigError(
                f"search: {self.settings['search']}",
                f"{self.model} has {1 + len(listed)} configurations",
                "lower it, or add to the model's own list search",
            )
        free = [
            {key: value for key, value in override.items() if key not in self.fixed}
            for override in listed[:wanted]
        ]
        return [
            override for place, override in enumerate(free) if override not in [{}, *free[:place]]
        ]


def network_of(model: str, settings: dict[str, Settings]) -> Settings:
    """Section model for the flow, else the network's object of section baselines; no search."""
    found = settings["model"] if model == FLOW else settings["baselines"][model]
    return {key: value for key, value in found.items() if key != "search"}


def training_of(model: str, settings: dict[str, Settings]) -> Settings:
    """Section train without what a network doesn't read, so that it isn't trained again for that.

    That is the list search, which is told apart, and for others than the flow what their own
    object says, or what only a flow has.
    """
    unread = {"search"}
    if model != FLOW:
        unread |= {*FLOW_ALONE, *network_of(model, settings)}
    return {key: value for key, value in settings["train"].items() if key not in unread}


@dataclass(frozen=True)
class PlannedSampler:
    """A way to sample a run's flow: its name, section `sample`, and whether it is the student."""

    name: str
    settings: Settings
    student: bool = False


def slug(text: str) -> str:
    """A word, or a file's name without .gmt or .json, as part of a run's name."""
    name = Path(text).name.removesuffix(".gmt").removesuffix(".json")
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def compared(config: dict[str, Any], cohort: str) -> list[PlannedRun]:
    """The models of a cohort and their repeats; the first is the one that is reported."""
    settings = for_cohort(config, cohort)
    seed = config["seed"]
    found = []
    for number in range(settings["seeds"]):
        variant = f"seed-{seed + number}" if number else ""
        for model in settings["models"]:
            run = PlannedRun(
                model,
                variant,
                slug(settings["features"]["encoder"]),
                slug(settings["pathways"]["source"]),
                seed + number,
                settings,
            )
            found.append(replace(run, trained=run.name))
    return found


def ablations(config: dict[str, Any], cohort: str) -> dict[str, PlannedRun]:
    """The variants of a cohort's first model, by the name of the ablation.

    Those that change only what this model doesn't read are left out: its gene sets, say, if it
    is a network without any.
    """
    base = compared(config, cohort)[0]
    read = VARIED if base.model == FLOW else VARIED_NETWORK
    return {
        name: _varied(base, name, {key: changes[key] for key in read if key in changes})
        for name, changes in base.settings["ablations"].items()
        if changes and not changes.keys().isdisjoint(read)
    }


def samplers(run: PlannedRun) -> list[PlannedSampler]:
    """The ways to sample a run's flow that its section samplers lists, the reference first.

    Empty for a model without draws.

    Raises
    ------
    ConfigError
        Two are the same, or the reference isn't among them.
    """
    if run.model != FLOW:
        return []
    own = run.settings["samplers"]
    # Without guidance unless a variant names some: intervals are valid at 1 only.
    base = run.settings["sample"] | {"draws": own["draws"], "keep": "draws", "guidance": 1.0}
    found: dict[str, PlannedSampler] = {}
    for changes in own["variants"]:
        settings = base | changes
        name = f"{settings['solver']}-{settings['steps']}"
        if settings["guidance"] != 1:
            name += f"-guidance-{settings['guidance']:g}"
        if name in found:
            raise ConfigError("samplers.variants", f"{name} is there twice", "keep one")
        found[name] = PlannedSampler(name, settings)
    if own["one_step"]:
        found[STUDENT] = PlannedSampler(STUDENT, base | ONE_STEP, True)
    reference = found.pop(own["reference"], None)
    if reference is None:
        raise ConfigError(
            f"samplers.reference: {own['reference']}",
            f"variants are {', '.join(found)}",
            "name one of them, or add it",
        )
    if not found:
        raise ConfigError("samplers", "there is the reference alone", "add a variant, or one_step")
    return [reference, *found.values()]


def _varied(base: PlannedRun, variant: str, own: dict[str, Any]) -> PlannedRun:
    settings = dict(base.settings)
    for section, values in own.items():
        settings[section] = overlay(base.settings[section], values)
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
    trained = own.get("train", {}) if base.model == FLOW else own.get("baselines", {})
    fixed = frozenset(trained if base.model == FLOW else trained.get(base.model, {}))
    run = PlannedRun(base.model, variant, encoder, sets, base.seed, settings, fixed=fixed)
    return replace(run, trained=base.name if own.keys() == {"sample"} else run.name)


def by_name(runs: Iterable[PlannedRun], name: str, section: str) -> dict[str, Settings]:
    """Settings of features or gene sets by the names that paths give them.

    Raises
    ------
    ConfigError
        Two that differ would have one name, and so one file.
    """
    found: dict[str, Settings] = {}
    for run in runs:
        own = run.settings[section]
        if found.setdefault(getattr(run, name), own) != own:
            raise ConfigError(
                f"ablation {run.variant}" if run.variant else section,
                f"its {name} would be named '{getattr(run, name)}', as another's are",
                "give its file or encoder another name, or change one more key of it",
            )
    return found
