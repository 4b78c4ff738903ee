"""Plan of one cohort: its runs, samplers, ablations, features and gene sets, and its refusals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from slide2rna.core import config as configuration
from slide2rna.core.config import Settings
from slide2rna.core.errors import ConfigError
from slide2rna.plan import runs
from slide2rna.plan.runs import ALONE, FLOW, PlannedRun, PlannedSampler

SIMULATED = ("demo", "law", "law2")
LAWS = ("law", "law2")  # sources that make features and no slides
WITH_TRUTH = ("demo", "law2")  # sources that leave the attainable correlations
# Why the study stain refuses a cohort, and what it takes.
NO_SLIDES = ("no slides to read again", "it needs keep_slides: true and an encoder of tiles")


@dataclass(frozen=True)
class CohortPlan:
    """Plan of a cohort: everything that is computed for it.

    Attributes
    ----------
    name : the cohort's name.
    block : its block in section cohorts of the configuration.
    settings : every section, with the cohort's own settings on top.
    models : its models and their repeats; the first is the reported one.
    samplers : samplers of the reported model, the reference first; empty unless it is the flow.
    ablations : variants of the reported model by the name of the ablation.
    features, gene_sets : settings of either, by the names that paths give them.
    partners : cohorts whose slides may join the fit of a flow's mean.
    """

    name: str
    block: Settings
    settings: Settings
    models: list[PlannedRun]
    samplers: list[PlannedSampler]
    ablations: dict[str, PlannedRun]
    features: dict[str, Settings]
    gene_sets: dict[str, Settings]
    partners: list[str]

    @classmethod
    def of(cls, config: Settings, name: str) -> CohortPlan:
        """Plan a cohort of a validated configuration.

        Raises
        ------
        ConfigError
            A model, sampler or search can't be planned, an extra has nothing to show, or two
            files would share a name.
        """
        block, settings = config["cohorts"][name], configuration.for_cohort(config, name)
        models = runs.model_runs(config, name)
        samplers = runs.samplers(models[0])
        ablations = runs.ablations(config, name)
        stained = block["keep_slides"] and settings["features"]["encoder"] != "files"
        if not stained:  # without slides to read again there is one set of features
            encoder = models[0].encoder
            ablations = {key: run for key, run in ablations.items() if run.encoder == encoder}
        shown = {"samplers": bool(samplers), "ablations": bool(ablations), "stain": stained}
        _check_extras(name, settings["extras"], shown)
        planned = [*models, *ablations.values()]
        features = runs.settings_by_name(planned, "encoder", "features")
        gene_sets = runs.settings_by_name(planned, "pathways", "pathways")
        for run in planned:
            run.search()
        partners = configuration.partners(config, name)
        return cls(
            name, block, settings, models, samplers, ablations, features, gene_sets, partners
        )

    @property
    def reported(self) -> PlannedRun:
        """The run that the cohort's report and package are about."""
        return self.models[0]

    @cached_property
    def runs(self) -> dict[str, PlannedRun]:
        """Every run by its name, ablations included."""
        return {run.name: run for run in [*self.models, *self.ablations.values()]}

    @property
    def folds(self) -> range:
        """Fold numbers; within one patient every section is a fold."""
        return range(self.settings["folds"]["n"])

    @property
    def shards(self) -> range:
        """Shard numbers."""
        return range(self.block["shards"])

    @property
    def simulated(self) -> bool:
        """Whether a generator makes the cohort."""
        return self.block["source"] in SIMULATED

    @property
    def keeps_slides(self) -> bool:
        """Whether download, tiles and features are separate jobs, and the slides stay."""
        return self.block["keep_slides"]

    @property
    def has_tiles(self) -> bool:
        """Whether an encoder reads slides; else their features come from files."""
        return self.settings["features"]["encoder"] != "files"

    @property
    def can_be_stained(self) -> bool:
        """Whether the study stain can read the slides again."""
        return self.keeps_slides and self.has_tiles

    @property
    def published_folds(self) -> bool:
        """Whether the folds, and so the slides, are the published ones."""
        return self.block.get("splits") == "published"

    @property
    def audited(self) -> list[str]:
        """The networks that the leak audit trains under both pairings."""
        networks = {FLOW, *self.settings["baselines"]}
        return [name for name in self.settings["leak_audit"]["models"] if name in networks]

    @property
    def joined(self) -> bool:
        """Whether partners or a starting model join its fits, with an ablation without them."""
        return bool(self.partners or self.settings["start"]) and ALONE in self.ablations

    def starting_models(self, run: PlannedRun) -> list[str]:
        """Return the folder of the model that a flow's fit starts from, in a list, or none."""
        start = self.settings["start"]
        return [start] if start and run.model == FLOW else []


def _check_extras(cohort: str, extras: list[str], shown: dict[str, bool]) -> None:
    """Raise ConfigError for the first extra that has nothing to show."""
    reasons = {
        "samplers": ("its first model isn't the flow", "put flow first in models"),
        "ablations": ("there are none", "name some"),
        "stain": NO_SLIDES,
    }
    for name, reason in reasons.items():
        if name in extras and not shown[name]:
            raise ConfigError(f"extras of {cohort}: {name}", *reason)
