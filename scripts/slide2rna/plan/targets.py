"""Targets: the files that a cohort, `snakemake` alone, and each study ask for."""

from __future__ import annotations

from dataclasses import dataclass

from slide2rna.core.errors import ConfigError
from slide2rna.plan.cohorts import NO_SLIDES, CohortPlan
from slide2rna.plan.plan import Plan, Wildcards


@dataclass(frozen=True)
class Targets:
    """Files that the rules without a command collect."""

    plan: Plan

    def cohort(self, name: str) -> list[str]:
        """Return the report and the package of a cohort."""
        cohort, paths = self.plan.cohorts[name], self.plan.paths
        return [_of(cohort, paths.report), _of(cohort, paths.predictor)]

    @property
    def all(self) -> list[str]:
        """Reports, packages and external pages: what `snakemake` alone makes."""
        paths = self.plan.paths
        return self._every(paths.report) + self._every(paths.predictor) + self.external_pages

    @property
    def ablations(self) -> list[str]:
        """Tables of the cohorts that have any ablation."""
        cohorts = self.plan.cohorts.values()
        return [_of(cohort, self.plan.paths.ablations) for cohort in cohorts if cohort.ablations]

    @property
    def samplers(self) -> list[str]:
        """Tables of the cohorts whose reported model is the flow."""
        cohorts = self.plan.cohorts.values()
        return [_of(cohort, self.plan.paths.samplers) for cohort in cohorts if cohort.samplers]

    @property
    def partners(self) -> list[str]:
        """Tables of the cohorts whose fits partners or a starting model join."""
        cohorts = self.plan.cohorts.values()
        return [_of(cohort, self.plan.paths.partners) for cohort in cohorts if cohort.joined]

    @property
    def leak_audits(self) -> list[str]:
        """The leak audit of every cohort."""
        return self._every(self.plan.paths.leak_audit)

    @property
    def exports(self) -> list[str]:
        """Every cohort's test samples as AnnData."""
        return self._every(self.plan.paths.export)

    @property
    def external_pages(self) -> list[str]:
        """The page of each external pair."""
        page, pairs = self.plan.paths.external_page, self.plan.config["external"]
        runs = [self.plan.cohorts[pair["train"]].reported.name for pair in pairs]
        return [
            page.format(cohort=pair["test"], train=pair["train"], run=run)
            for pair, run in zip(pairs, runs, strict=True)
        ]

    def external(self, wildcards: Wildcards) -> list[str]:
        """Return the page of each external pair.

        Raises
        ------
        ConfigError
            The configuration names no pair.
        """
        if not self.external_pages:
            cause = f"{self.plan.where} names no pair"
            raise ConfigError("external", cause, "add one: external: [{train: A, test: B}]")
        return self.external_pages

    def stain(self, wildcards: Wildcards) -> list[str]:
        """Return the tables of the cohorts whose slides can be read again.

        Raises
        ------
        ConfigError
            No cohort has such slides.
        """
        cohorts = [cohort for cohort in self.plan.cohorts.values() if cohort.can_be_stained]
        if not cohorts:
            raise ConfigError("stain", *NO_SLIDES)
        return [_of(cohort, self.plan.paths.stain) for cohort in cohorts]

    def _every(self, path: str) -> list[str]:
        return [_of(cohort, path) for cohort in self.plan.cohorts.values()]


def _of(cohort: CohortPlan, path: str) -> str:
    """Return a path of a cohort's reported run."""
    return path.format(cohort=cohort.name, run=cohort.reported.name)
