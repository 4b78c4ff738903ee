"""Parameter functions: what decides a job's result, so that a change of it reruns the job."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from slide2rna.core.config import Settings, result_settings
from slide2rna.plan import runs
from slide2rna.plan.cohorts import CohortPlan
from slide2rna.plan.plan import Plan, Wildcards, as_json
from slide2rna.plan.runs import ALONE

ParamsFunction = Callable[[Wildcards], Any]
Keep = Callable[[str, Settings], Settings]
RunAttribute = Literal["name", "model", "label", "encoder", "pathways", "seed"]
# Sections that a new slide's prediction depends on, and those that only an extra shows.
PACKAGED = ("tiles", "bags", "sample", "evaluate", "shift")
EXTRAS = ("ablations", "samplers", "leak_audit", "stain")
# Keys of section features that the stage bags must know.
FEATURE_FORM = ("encoder", "level", "scale")
SAMPLER_KEYS = ("solver", "steps", "guidance")


@dataclass(frozen=True)
class Parameters:
    """Parameter functions of the rules: sections of the configuration, mostly as JSON."""

    plan: Plan

    # Of a cohort.

    def block(self, key: str) -> ParamsFunction:
        """Return the params function of a key of the cohort's block."""
        return lambda wildcards: self.plan.cohort(wildcards).block[key]

    def setting(self, key: str) -> ParamsFunction:
        """Return the params function of a key outside the sections."""
        return lambda wildcards: self.plan.cohort(wildcards).settings[key]

    def section(self, name: str) -> ParamsFunction:
        """Return the params function of a section."""
        return lambda wildcards: as_json(self.plan.cohort(wildcards).settings[name])

    def deciding(self, section: str, settings: ParamsFunction) -> ParamsFunction:
        """Return the params function of those keys of a section that decide a result."""
        return lambda wildcards: as_json(result_settings(section, json.loads(settings(wildcards))))

    def folder(self, wildcards: Wildcards) -> str:
        """Return the cohort's folder."""
        return self.plan.paths.folder.format(cohort=wildcards.cohort)

    def source(self, wildcards: Wildcards) -> str:
        """Return a cohort's block without what only later stages read."""
        cohort = self.plan.cohort(wildcards)
        later = {"settings", "shards", "keep_slides", "downloads", "token_file"}
        if not cohort.published_folds:
            later |= {"splits"}
        return as_json({key: value for key, value in cohort.block.items() if key not in later})

    def bags(self, wildcards: Wildcards) -> str:
        """Return section bags as far as a slide's whole bag depends on it."""
        return as_json(result_settings("bags", self.plan.cohort(wildcards).settings["bags"]))

    def resampled_bags(self, wildcards: Wildcards) -> str:
        """Return the same with the number and the share that a path of resampled bags names."""
        named = {
            "resamples": int(wildcards.number),
            "resample_share": float(wildcards.share),
        }
        return as_json(json.loads(self.bags(wildcards)) | named)

    def cohort_features(self, wildcards: Wildcards) -> str:
        """Return a cohort's section features, with the file of the weights."""
        return self._features(wildcards, self.plan.cohort(wildcards).settings["features"])

    def features(self, wildcards: Wildcards) -> str:
        """Return section features of the features that a path names."""
        return self._features(wildcards, self.plan.cohort(wildcards).features[wildcards.encoder])

    def feature_form(self, wildcards: Wildcards) -> str:
        """Return what the stage bags must know of the features that a path names."""
        features = self.plan.cohort(wildcards).features[wildcards.encoder]
        return as_json({key: features[key] for key in FEATURE_FORM})

    def gene_sets(self, wildcards: Wildcards) -> str:
        """Return section pathways of the gene sets that a path names."""
        return as_json(self.plan.cohort(wildcards).gene_sets[wildcards.set])

    def folds(self, wildcards: Wildcards) -> int:
        """Return the number of folds."""
        return len(self.plan.cohort(wildcards).folds)

    # Of a run.

    def run(self, attribute: RunAttribute) -> ParamsFunction:
        """Return the params function of one attribute of a run."""
        return lambda wildcards: getattr(self.plan.run(wildcards), attribute)

    def run_section(self, name: str) -> ParamsFunction:
        """Return the params function of a section of a run: an ablation has its own."""
        return lambda wildcards: as_json(self.plan.run(wildcards).settings[name])

    def run_features(self, wildcards: Wildcards) -> str:
        """Return section features of a run, with the file of the weights."""
        return self._features(wildcards, self.plan.run(wildcards).settings["features"])

    def network(self, wildcards: Wildcards) -> str:
        """Return the settings of a run's network."""
        return as_json(self.plan.run(wildcards).network())

    def training(self, wildcards: Wildcards) -> str:
        """Return the keys of section train that a run's network reads."""
        return as_json(self.plan.run(wildcards).training())

    def search(self, wildcards: Wildcards) -> str:
        """Return the further configurations that a run tries."""
        return as_json(self.plan.run(wildcards).search())

    def sampling(self, wildcards: Wildcards) -> str:
        """Return section sample of a run."""
        return as_json(self.plan.run(wildcards).sampling())

    def package(self, wildcards: Wildcards) -> str:
        """Return the sections that a new slide's prediction depends on."""
        settings = self.plan.run(wildcards).settings
        sections = {name: settings[name] for name in PACKAGED}
        sections["features"] = self.plan.with_weights(wildcards.cohort, settings["features"])
        sections["bags"] = result_settings("bags", settings["bags"])
        return as_json(sections)

    # Of studies and the report.

    def student(self, wildcards: Wildcards) -> str:
        """Return the training of a one-step student."""
        return as_json(self.plan.run(wildcards).settings["samplers"]["student"])

    def samplers(self, wildcards: Wildcards) -> str:
        """Return name, settings and network of every sampler, in an order without a reference."""
        return as_json(self._samplers(wildcards, lambda section, settings: settings))

    def deciding_samplers(self, wildcards: Wildcards) -> str:
        """Return the same with those settings that decide a result."""
        return as_json(self._samplers(wildcards, result_settings))

    def scored_samplers(self, wildcards: Wildcards) -> str:
        """Return label, name and cost of every sampler, the reference first."""
        label = self.plan.run(wildcards).label
        return as_json(
            [
                [f"{label}.{sampler.name}", sampler.name]
                + [dict(sampler.settings)[key] for key in SAMPLER_KEYS]
                for sampler in self.plan.cohort(wildcards).samplers
            ]
        )

    def ablations(self, wildcards: Wildcards) -> str:
        """Return label, name and group of every ablation."""
        cohort = self.plan.cohort(wildcards)
        groups = cohort.settings["ablations"]
        listed = cohort.ablations.items()
        return as_json([[run.label, name, groups[name].get("group", name)] for name, run in listed])

    def alone(self, wildcards: Wildcards) -> str:
        """Return the same of the ablation without partners."""
        return as_json([[self.plan.cohort(wildcards).ablations[ALONE].label, ALONE, "partners"]])

    def audited(self, wildcards: Wildcards) -> str:
        """Return the settings of the networks that the leak audit trains, without a search."""
        return as_json(_networks(self.plan.cohort(wildcards), lambda section, settings: settings))

    def deciding_audited(self, wildcards: Wildcards) -> str:
        """Return the same with those settings that decide a result."""
        return as_json(_networks(self.plan.cohort(wildcards), result_settings))

    def report(self, wildcards: Wildcards) -> str:
        """Return a cohort's settings without tables that its report doesn't wait for."""
        cohort = self.plan.cohort(wildcards)
        settings = dict(cohort.settings)
        for section in EXTRAS:
            if section not in settings["extras"]:
                del settings[section]
        trained = {run.model for run in cohort.models}
        if "leak_audit" in settings:
            trained |= set(cohort.audited)
        baselines = settings["baselines"].items()
        settings["baselines"] = {name: values for name, values in baselines if name in trained}
        if settings["search"] == 1:
            settings["train"] = _without_search(settings["train"])
            baselines = settings["baselines"].items()
            settings["baselines"] = {name: _without_search(values) for name, values in baselines}
        return as_json(settings)

    def reported(self, attribute: RunAttribute) -> ParamsFunction:
        """Return the params function of one attribute of the reported run."""
        return lambda wildcards: getattr(self.plan.cohort(wildcards).reported, attribute)

    def _features(self, wildcards: Wildcards, features: Settings) -> str:
        return as_json(self.plan.with_weights(wildcards.cohort, features))

    def _samplers(self, wildcards: Wildcards, keep: Keep) -> list[list[Any]]:
        samplers = sorted(self.plan.cohort(wildcards).samplers, key=lambda sampler: sampler.name)
        return [[s.name, keep("sample", dict(s.settings)), s.student] for s in samplers]


def _networks(cohort: CohortPlan, keep: Keep) -> dict[str, Settings]:
    settings = cohort.settings
    return {
        name: {
            "model": runs.network_settings(name, settings),
            "train": keep("train", runs.training_settings(name, settings)),
        }
        for name in cohort.audited
    }


def _without_search(settings: Settings) -> Settings:
    return {key: value for key, value in settings.items() if key != "search"}
