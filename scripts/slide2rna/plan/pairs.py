"""External pairs: files and parameters of one cohort's fold models on another cohort's slides."""

from __future__ import annotations

from dataclasses import dataclass

from slide2rna.plan.cohorts import CohortPlan
from slide2rna.plan.inputs import Files, InputFunction
from slide2rna.plan.parameters import ParamsFunction, RunAttribute
from slide2rna.plan.plan import Plan, Wildcards, as_json


@dataclass(frozen=True)
class Pairs:
    """Functions of the rules whose paths name a training cohort besides the test cohort."""

    plan: Plan

    def every_fold(self, pattern: str) -> InputFunction:
        """Return the input function of a path of each fold model of the training cohort."""
        return lambda wildcards: [
            pattern.format(
                cohort=wildcards.cohort, train=wildcards.train, run=wildcards.run, fold=fold
            )
            for fold in self._train(wildcards).folds
        ]

    def gene_sets(self, wildcards: Wildcards) -> Files:
        """Return the gene sets of the training cohort's models."""
        return self.plan.gene_sets(wildcards.train)

    def test_bags(self, wildcards: Wildcards) -> Files:
        """Return the bags of the test cohort."""
        return self.plan.bags(wildcards.cohort)

    def bags(self, wildcards: Wildcards) -> Files:
        """Return the bags of both cohorts, the training cohort's first."""
        return [self.plan.bags(name) for name in (wildcards.train, wildcards.cohort)]

    def tables(self, wildcards: Wildcards) -> Files:
        """Return the tables of both cohorts, the training cohort's first."""
        paths, names = self.plan.paths, (wildcards.train, wildcards.cohort)
        patterns = (paths.expression, paths.slides, paths.splits, paths.cohort)
        return [pattern.format(cohort=name) for name in names for pattern in patterns]

    def train_folder(self, wildcards: Wildcards) -> str:
        """Return the training cohort's folder."""
        return self.plan.paths.folder.format(cohort=wildcards.train)

    def run(self, attribute: RunAttribute) -> ParamsFunction:
        """Return the params function of one attribute of the training cohort's reported run."""
        return lambda wildcards: getattr(self._train(wildcards).reported, attribute)

    def folds(self, wildcards: Wildcards) -> int:
        """Return the number of fold models."""
        return len(self._train(wildcards).folds)

    def sampling(self, wildcards: Wildcards) -> str:
        """Return section sample with as many draws per fold model as are `draws` together."""
        sample = self._train(wildcards).reported.settings["sample"]
        each = -(-sample["draws"] // self.folds(wildcards))
        # Scoring needs the draws themselves, and these are few.
        return as_json(sample | {"draws": max(2, each), "keep": "draws"})

    def _train(self, wildcards: Wildcards) -> CohortPlan:
        return self.plan.cohorts[wildcards.train]
