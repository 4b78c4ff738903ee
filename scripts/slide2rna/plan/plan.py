"""Plan of a configuration: what the Snakefile decides before it has a job, and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slide2rna.core import config as configuration
from slide2rna.core import encoder_names, yaml_file
from slide2rna.core.config import Settings
from slide2rna.core.errors import ConfigError, has_control
from slide2rna.plan.cohorts import LAWS, CohortPlan
from slide2rna.plan.paths import Paths
from slide2rna.plan.runs import FLOW, PlannedRun


class Wildcards(Protocol):
    """Wildcards of a job, as Snakemake passes them; a rule has some of them."""

    cohort: str
    shard: str
    encoder: str
    set: str
    run: str
    fold: str
    number: str
    share: str
    train: str


@dataclass(frozen=True)
class Plan:
    """Plan of a configuration: its cohorts, paths and targets.

    Attributes
    ----------
    config : the validated configuration with every default.
    where : names of the files that it comes from, for messages.
    paths : paths of the results folder.
    cohorts : the plan of each cohort, in the order of the configuration.
    """

    config: Settings
    where: str
    paths: Paths
    cohorts: dict[str, CohortPlan]

    @classmethod
    def of(cls, config: dict[str, Any], files: Sequence[str | Path] = ()) -> Plan:
        """Check a configuration and plan its cohorts.

        Parameters
        ----------
        config
            As Snakemake merged it; it stays as it is.
        files
            The YAML files behind it: any of them may hold an error.

        Raises
        ------
        ConfigError
            A key is wrong or twice in a file, or a cohort can't be planned.
        """
        for file in files:
            yaml_file.check_keys(file)
        where = _name_files(files)
        full = configuration.validate(config, where)
        paths = Paths(_check_results(full["results"], where))
        for name, block in full["cohorts"].items():
            if block["source"] in LAWS:
                path = paths.law_features.format(cohort=name)
                settings = block.setdefault("settings", {})
                settings["features"] = settings.get("features", {}) | {"path": path}
        cohorts = {name: CohortPlan.of(full, name) for name in full["cohorts"]}
        return cls(full, where, paths, cohorts)

    @property
    def simulated(self) -> list[str]:
        """Cohorts that a generator makes."""
        return [name for name, cohort in self.cohorts.items() if cohort.simulated]

    @property
    def kept(self) -> list[str]:
        """Cohorts whose slides stay: download, tiles and features are separate jobs."""
        return [name for name, cohort in self.cohorts.items() if cohort.keeps_slides]

    @property
    def streamed(self) -> list[str]:
        """Cohorts whose slides are deleted as soon as their features are there."""
        return [name for name, cohort in self.cohorts.items() if not cohort.keeps_slides]

    def cohort(self, wildcards: Wildcards) -> CohortPlan:
        """Return the cohort that a path names."""
        return self.cohorts[wildcards.cohort]

    def run(self, wildcards: Wildcards) -> PlannedRun:
        """Return the run that a path names."""
        return self.cohort(wildcards).runs[wildcards.run]

    def partners(self, wildcards: Wildcards) -> list[str]:
        """Return the other cohorts whose slides join the fit of a run's mean."""
        run = self.run(wildcards)
        if run.model != FLOW:
            return []
        # An ablation may have an encoder that a partner wasn't asked for.
        partners = self.cohort(wildcards).partners
        return [name for name in partners if run.encoder in self.cohorts[name].features]

    def bags(self, cohort: str, run: PlannedRun | None = None) -> str:
        """Return the path of a run's bags; without a run, of the reported one's."""
        encoder = (run or self.cohorts[cohort].reported).encoder
        return self.paths.bags.format(cohort=cohort, encoder=encoder)

    def gene_sets(self, cohort: str, run: PlannedRun | None = None) -> str:
        """Return the path of a run's gene sets; without a run, of the reported one's."""
        name = (run or self.cohorts[cohort].reported).pathways
        return self.paths.gene_sets.format(cohort=cohort, set=name)

    def lite0_weights(self, cohort: str, features: Settings) -> str | None:
        """Return the path of lite0's weights, for features made with those that come along."""
        names = encoder_names.names(features)
        if "lite0" not in names or encoder_names.of_one(features, "lite0")["weights"] is not None:
            return None
        return self.paths.lite0_weights.format(cohort=cohort)

    def with_weights(self, cohort: str, features: Settings) -> Settings:
        """Return section features with the file of the weights by name."""
        path = self.lite0_weights(cohort, features)
        if not path:
            return features
        if isinstance(features["encoder"], str):
            return features | {"weights": path}
        return features | {"weights": (features["weights"] or {}) | {"lite0": path}}

    def check_names(self, rules: Collection[str]) -> None:
        """Raise ConfigError if a cohort has a rule's name: `snakemake NAME` runs one of them."""
        if taken := self.cohorts.keys() & set(rules):
            cause = "a rule has this name"
            raise ConfigError(f"config.yaml: cohorts.{min(taken)}", cause, "choose another")


def _check_results(folder: str, where: str) -> str:
    """Return the results folder; braces would be wildcards of Snakemake."""
    if {"{", "}"} & set(folder) or has_control(folder):
        cause = f"the folder {folder!a} holds a brace or a control character"
        raise ConfigError(f"{where}: results", cause, "give a folder without")
    return folder


def as_json(value: Any) -> str:
    """Return a value as JSON with sorted keys: equal settings, equal parameters."""
    return json.dumps(value, sort_keys=True)


def _name_files(files: Sequence[str | Path]) -> str:
    """Return the names of the files of a configuration; Snakemake's own comes first."""
    names = [str(file).removeprefix(f"{os.getcwd()}/") for file in files]
    return " + ".join(sorted(dict.fromkeys(names), key="config.yaml".__ne__)) or "config.yaml"
