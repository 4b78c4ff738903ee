"""Planned runs of a cohort: its models, their repeats with other seeds, and the ablations.

A run is `<encoder>-<label>-<pathway set>`; the label is a model's name or `model.variant`. The
Snakefile uses this module while it is parsed, so no heavy imports.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from slide2rna.core.config import Settings, for_cohort, overlay
from slide2rna.core.encoder_names import label, slug
from slide2rna.core.errors import ConfigError
from slide2rna.core.settings import SampleSettings
from slide2rna.flow.one_step import ONE_STEP

STUDENT = "one-step"
FLOW = "flow"
ALONE = "alone"  # the ablation without partners and starting model
# Sections that an ablation may change: of the flow, and of a network without draws and gene sets.
VARIED_FLOW = ("features", "bags", "pathways", "model", "train", "sample")
VARIED_NETWORK = ("features", "bags", "baselines")
# Keys of section train that only the flow reads.
FLOW_ONLY = ("interpolant", "val_noise")


@dataclass(frozen=True)
class PlannedRun:
    """A model on a cohort.

    Attributes
    ----------
    model : name of the model.
    variant : name of an ablation, `seed-N`, or empty.
    encoder, pathways : names of the features and of the gene sets, as in paths.
    seed : seed of training and sampling.
    settings : sections of the configuration, with the variant's changes.
    trained_run : name of the run whose networks it samples: itself, unless only sampling differs.
    ablated_keys : training keys that an ablation sets and its search must not change.
    """

    model: str
    variant: str
    encoder: str
    pathways: str
    seed: int
    settings: dict[str, Any]
    trained_run: str = ""
    ablated_keys: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """The model's name, with the variant if there is one."""
        return f"{self.model}.{self.variant}" if self.variant else self.model

    @property
    def name(self) -> str:
        """The run's name in paths and tables."""
        return f"{self.encoder}-{self.label}-{self.pathways}"

    def network(self) -> Settings:
        """Return the settings of its network: section model, or its object in section baselines."""
        return network_settings(self.model, self.settings)

    def training(self) -> Settings:
        """Return the keys of section train that its network reads."""
        return training_settings(self.model, self.settings)

    def sampling(self) -> Settings:
        """Return section sample; {} for a network without draws."""
        return self.settings["sample"] if self.model == FLOW else {}

    def resamples(self) -> dict[str, str]:
        """Return number and share of further bags to train on, as in their path; {} without any."""
        bags = self.settings["bags"]
        if not bags["resamples"]:
            return {}
        return {"number": str(bags["resamples"]), "share": f"{bags['resample_share']:g}"}

    def search(self) -> list[Settings]:
        """Return the changes of each further configuration, without duplicates.

        Raises
        ------
        ConfigError
            The model lists fewer configurations than requested.
        """
        baselines = self.settings["baselines"]
        section = self.settings["train"] if self.model == FLOW else baselines[self.model]
        listed = section["search"]
        further = self.settings["search"] - 1
        if further > len(listed):
            raise ConfigError(
                f"search: {self.settings['search']}",
                f"{self.model} has {1 + len(listed)} configurations",
                "lower it, or add to the model's own list search",
            )
        free = [
            {key: value for key, value in override.items() if key not in self.ablated_keys}
            for override in listed[:further]
        ]
        return [
            override for index, override in enumerate(free) if override not in [{}, *free[:index]]
        ]


def network_settings(model: str, settings: dict[str, Settings]) -> Settings:
    """Return section model for the flow, else the network's baseline object, without search."""
    network = settings["model"] if model == FLOW else settings["baselines"][model]
    return {key: value for key, value in network.items() if key != "search"}


def training_settings(model: str, settings: dict[str, Settings]) -> Settings:
    """Return section train without unread keys, so that changing them doesn't retrain a network.

    Unread are the list search, which is passed separately, and for networks other than the flow
    the keys that their baseline object overrides and those of the flow alone.
    """
    unread = {"search"}
    if model != FLOW:
        unread |= {*FLOW_ONLY, *network_settings(model, settings)}
    return {key: value for key, value in settings["train"].items() if key not in unread}


@dataclass(frozen=True)
class PlannedSampler:
    """A sampler of a run's flow: its name, section `sample`, and whether it is the student."""

    name: str
    settings: SampleSettings
    student: bool = False


def model_runs(config: dict[str, Any], cohort: str) -> list[PlannedRun]:
    """Return the models of a cohort and their repeats; the first is the reported one."""
    settings = for_cohort(config, cohort)
    check_resamples(settings)
    seed = config["seed"]
    planned = []
    for number in range(settings["seeds"]):
        variant = f"seed-{seed + number}" if number else ""
        for model in settings["models"]:
            run = PlannedRun(
                model,
                variant,
                label(settings["features"]),
                slug(settings["pathways"]["source"]),
                seed + number,
                settings,
            )
            planned.append(replace(run, trained_run=run.name))
    return planned


def check_resamples(settings: dict[str, Settings]) -> None:
    """Raise ConfigError if slides that have no tiles are asked for resampled bags."""
    number = settings["bags"]["resamples"]
    if number and settings["features"]["level"] == "slide":
        cause = "features.level slide has one vector for each slide, and no tiles to draw"
        raise ConfigError(f"bags.resamples: {number}", cause, "leave it at 0")


def ablations(config: dict[str, Any], cohort: str) -> dict[str, PlannedRun]:
    """Return the variants of a cohort's first model by the name of the ablation.

    Ablations that change only sections that this model doesn't read are left out, such as gene
    sets for a network without any.
    """
    base = model_runs(config, cohort)[0]
    whole = base.settings["features"]["level"] == "slide"
    varied = VARIED_FLOW if base.model == FLOW else VARIED_NETWORK
    read = [section for section in varied if section != "bags" or not whole]
    return {
        name: _vary(base, name, {key: changes[key] for key in read if key in changes})
        for name, changes in base.settings["ablations"].items()
        if changes and not changes.keys().isdisjoint(read)
    }


def samplers(run: PlannedRun) -> list[PlannedSampler]:
    """Return the samplers of a run's flow from section samplers, the reference first.

    The list is empty for a model without draws.

    Raises
    ------
    ConfigError
        Two samplers are the same, or the reference is missing.
    """
    if run.model != FLOW:
        return []
    section = run.settings["samplers"]
    # No guidance unless a variant sets it: intervals are valid only at 1.
    base = run.settings["sample"] | {"draws": section["draws"], "keep": "draws", "guidance": 1.0}
    planned: dict[str, PlannedSampler] = {}
    for changes in section["variants"]:
        settings = base | changes
        name = f"{settings['solver']}-{settings['steps']}"
        if settings["guidance"] != 1:
            name += f"-guidance-{settings['guidance']:g}"
        if name in planned:
            raise ConfigError("samplers.variants", f"{name} is there twice", "keep one")
        planned[name] = PlannedSampler(name, settings)
    if section["one_step"]:
        planned[STUDENT] = PlannedSampler(STUDENT, base | ONE_STEP, True)
    reference = planned.pop(section["reference"], None)
    if reference is None:
        raise ConfigError(
            f"samplers.reference: {section['reference']}",
            f"variants are {', '.join(planned)}",
            "name one of them, or add it",
        )
    if not planned:
        raise ConfigError("samplers", "there is the reference alone", "add a variant, or one_step")
    return [reference, *planned.values()]


def _vary(base: PlannedRun, variant: str, changes: dict[str, Any]) -> PlannedRun:
    """Return a run with an ablation's changes and the names that follow from them."""
    settings = dict(base.settings)
    for section, values in changes.items():
        settings[section] = overlay(base.settings[section], values)
    encoder, sets = base.encoder, base.pathways
    if "features" in changes:
        encoder = label(settings["features"])
        if encoder != base.encoder:  # weights and files belong to one encoder
            empty = dict.fromkeys(("weights", "revision", "embedding", "path"))
            settings["features"] = settings["features"] | empty | changes["features"]
        elif changes["features"]:
            encoder = f"{encoder}.{variant}"
    if "pathways" in changes:
        sets = slug(settings["pathways"]["source"])
        if changes["pathways"].keys() - {"source"}:
            sets = f"{sets}.{variant}"
    if base.model == FLOW:
        fixed = frozenset(changes.get("train", {}))
    else:
        fixed = frozenset(changes.get("baselines", {}).get(base.model, {}))
    run = PlannedRun(base.model, variant, encoder, sets, base.seed, settings, ablated_keys=fixed)
    return replace(run, trained_run=base.name if changes.keys() == {"sample"} else run.name)


def settings_by_name(runs: Iterable[PlannedRun], name: str, section: str) -> dict[str, Settings]:
    """Return the settings of features or gene sets by their names in paths.

    Raises
    ------
    ConfigError
        Two different settings would share a name, and so a file.
    """
    named: dict[str, Settings] = {}
    for run in runs:
        settings = run.settings[section]
        if named.setdefault(getattr(run, name), settings) != settings:
            raise ConfigError(
                f"ablation {run.variant}" if run.variant else section,
                f"its {name} would be named '{getattr(run, name)}', as another's are",
                "give its file or encoder another name, or change one more key of it",
            )
    return named
