"""Input functions: the files that a job reads, from the wildcards of its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from slide2rna.core.config import Settings
from slide2rna.plan.cohorts import WITH_TRUTH, CohortPlan
from slide2rna.plan.paths import Paths
from slide2rna.plan.plan import Plan, Wildcards
from slide2rna.plan.runs import ALONE, FLOW, PlannedRun

Files = str | list[str]
InputFunction = Callable[[Wildcards], Files]
# Tables of the evaluation that a report shows, and that a package is made from.
REPORTED = (
    *("summary", "genes", "calibration", "pathways", "samples", "examples", "conformal"),
    *("coexpression", "pathway_intervals", "search"),
)
PACKAGED = (
    *("summary", "genes", "pathways", "samples", "calibration", "conformal", "conformal_factors"),
)
NAMED_SETS = ("go-bp", "go-mf", "adjacent")  # sources of gene sets without a file of the user's


@dataclass(frozen=True)
class Inputs:
    """Input functions of the rules, each a method that takes a job's wildcards."""

    plan: Plan

    @property
    def paths(self) -> Paths:
        return self.plan.paths

    # The cohort.

    def user_files(self, wildcards: Wildcards) -> Files:
        """Return the user's files behind a cohort, so that a change in one of them reruns it."""
        cohort = self.plan.cohort(wildcards)
        if cohort.simulated:
            return []
        if cohort.block["source"] == "her2st":
            return sorted(str(path) for path in Path(cohort.block["path"]).glob("*.tsv*"))
        # Not the manifest: the rule itself writes it, and a new input would make it run twice.
        keys = ("sheet", "expression", "published_splits", "genes", "slide_list", "pathdb_table")
        return _named_files(cohort, *keys)

    def source_mark(self, wildcards: Wildcards) -> list[str]:
        """Return the mark of the generator that makes a cohort, if one does."""
        cohort = self.plan.cohort(wildcards)
        return [self.paths.source_mark.format(cohort=cohort.name)] if cohort.simulated else []

    def split_files(self, wildcards: Wildcards) -> Files:
        """Return the user's own split, if there is one."""
        return _named_files(self.plan.cohort(wildcards), "splits", "published_splits")

    def sheet(self, cohort: CohortPlan) -> Path | None:
        """Return the sheet that lists a cohort's slides; None if they are fetched, or regions."""
        if cohort.simulated:
            return Path(self.paths.source_sheet.format(cohort=cohort.name))
        return Path(cohort.block["sheet"]) if cohort.block["source"] == "sheet" else None

    def slides_folder(self, name: str) -> str:
        """Return the folder that a cohort's slide paths are relative to."""
        cohort = self.plan.cohorts[name]
        sheet = self.sheet(cohort)
        if sheet is not None:
            return str(sheet.parent)
        if cohort.block["source"] == "her2st":
            return str(cohort.block["path"])
        return str(Path(self.paths.slides_shard.format(cohort=name, shard=0)).parent)

    # Slides and features.

    def every_shard(self, pattern: str) -> InputFunction:
        """Return the input function of a stage's manifests, one per shard."""
        return lambda wildcards: self._shards(pattern, wildcards.cohort)

    def feature_shards(self, wildcards: Wildcards) -> Files:
        """Return the manifests of the features that a path names."""
        return self._shards(self.paths.features_shard, wildcards.cohort, wildcards.encoder)

    def run_feature_shards(self, wildcards: Wildcards) -> Files:
        """Return the manifests of a run's features."""
        encoder = self.plan.run(wildcards).encoder
        return self._shards(self.paths.features_shard, wildcards.cohort, encoder)

    def tiles(self, wildcards: Wildcards) -> Files:
        """Return a shard's tiles; features from files need none."""
        features = self.plan.cohort(wildcards).features[wildcards.encoder]
        if features["encoder"] == "files":
            return []
        return self.paths.tiles_shard.format(cohort=wildcards.cohort, shard=wildcards.shard)

    def encoder_weights(self, wildcards: Wildcards) -> Files:
        """Return the weights' file of the encoder that a path names, if it has one."""
        features = self.plan.cohort(wildcards).features[wildcards.encoder]
        return self._weights(wildcards.cohort, features)

    def run_encoder_weights(self, wildcards: Wildcards) -> Files:
        """Return the weights' file of a run's encoder, if it has one."""
        return self._weights(wildcards.cohort, self.plan.run(wildcards).settings["features"])

    def cohort_encoder_weights(self, wildcards: Wildcards) -> Files:
        """Return the weights' file of a cohort's own encoder, if it has one."""
        return self._weights(wildcards.cohort, self.plan.cohort(wildcards).settings["features"])

    def gene_set_file(self, wildcards: Wildcards) -> Files:
        """Return the user's GMT or JSON file; the named sources need none."""
        source = self.plan.cohort(wildcards).gene_sets[wildcards.set]["source"]
        return [] if source in NAMED_SETS else source

    # A run.

    @property
    def tables(self) -> dict[str, str | InputFunction]:
        """What most stages read of a cohort; bags are those of the run."""
        paths = self.paths
        frozen = {"expression": paths.expression, "slides": paths.slides, "splits": paths.splits}
        return {"bags": self.bags, **frozen, "cohort": paths.cohort}

    def scored(self, draws: str) -> dict[str, str | InputFunction]:
        """Return what scoring a run reads, its draws of each fold under this pattern."""
        folds = {"draws": self.every_fold(draws), "models": self.every_fold(self.paths.model)}
        return {**folds, **self.tables, "pathways": self.gene_sets}

    def bags(self, wildcards: Wildcards) -> Files:
        """Return the bags of a run."""
        return self.plan.bags(wildcards.cohort, self.plan.run(wildcards))

    def gene_sets(self, wildcards: Wildcards) -> Files:
        """Return the gene sets of a run."""
        return self.plan.gene_sets(wildcards.cohort, self.plan.run(wildcards))

    def every_fold(self, pattern: str) -> InputFunction:
        """Return the input function of a path of each fold of a run."""
        return lambda wildcards: self._of_runs(pattern, wildcards, [self.plan.run(wildcards)])

    def trained(self, pattern: str) -> InputFunction:
        """Return the input function of a file of the networks that a run samples."""
        return lambda wildcards: pattern.format(
            cohort=wildcards.cohort,
            run=self.plan.run(wildcards).trained_run,
            fold=wildcards.fold,
        )

    def partner_files(self, wildcards: Wildcards) -> Files:
        """Return what the partners are read from; their features are the run's."""
        encoder, paths = self.plan.run(wildcards).encoder, self.paths
        patterns = (paths.bags, paths.expression, paths.slides)
        names = self.plan.partners(wildcards)
        return [path.format(cohort=name, encoder=encoder) for name in names for path in patterns]

    def start_files(self, wildcards: Wildcards) -> Files:
        """Return the fold models that a flow's fit starts from."""
        starts = self.plan.cohort(wildcards).starting_models(self.plan.run(wildcards))
        found = [Path(start).glob("fold-*/model.safetensors") for start in starts]
        return sorted(str(path) for paths in found for path in paths)

    def resampled_bags(self, wildcards: Wildcards) -> list[str]:
        """Return further bags of the train slides, where a run is trained on any."""
        run, pattern = self.plan.run(wildcards), self.paths.resampled_bags
        named = run.resamples()
        if not named:
            return []
        return [pattern.format(cohort=wildcards.cohort, encoder=run.encoder, **named)]

    # Scores, studies and the report.

    def other_draws(self, wildcards: Wildcards) -> Files:
        """Return the draws of the models beside the reported one."""
        return self._of_runs(self.paths.draws, wildcards, self.plan.cohort(wildcards).models[1:])

    def searches(self, wildcards: Wildcards) -> Files:
        """Return what each model's search tried."""
        return self._of_runs(self.paths.search, wildcards, self.plan.cohort(wildcards).models)

    def ablation_draws(self, wildcards: Wildcards) -> Files:
        """Return the draws of every ablation."""
        ablations = self.plan.cohort(wildcards).ablations.values()
        return self._of_runs(self.paths.draws, wildcards, ablations)

    def alone_draws(self, wildcards: Wildcards) -> Files:
        """Return the draws of the ablation without partners."""
        alone = self.plan.cohort(wildcards).ablations[ALONE]
        return self._of_runs(self.paths.draws, wildcards, [alone])

    def student(self, wildcards: Wildcards) -> Files:
        """Return a fold's one-step student, where it is one of the samplers."""
        if not any(sampler.student for sampler in self.plan.cohort(wildcards).samplers):
            return []
        patterns = (self.paths.student, self.paths.student_weights)
        names = {"cohort": wildcards.cohort, "run": wildcards.run, "fold": wildcards.fold}
        return [pattern.format(**names) for pattern in patterns]

    def reported_bags(self, wildcards: Wildcards) -> Files:
        """Return the bags of the run that a cohort's report is about."""
        return self.plan.bags(wildcards.cohort)

    def audited_gene_sets(self, wildcards: Wildcards) -> Files:
        """Return the gene sets of the leak audit; the flow alone needs any."""
        audited = self.plan.cohort(wildcards).audited
        return self.plan.gene_sets(wildcards.cohort) if FLOW in audited else []

    def truth_mark(self, wildcards: Wildcards) -> list[str]:
        """Return the mark of a generator that leaves the attainable correlations, too."""
        cohort = self.plan.cohort(wildcards)
        if cohort.block["source"] not in WITH_TRUTH:
            return []
        return [self.paths.source_mark.format(cohort=cohort.name)]

    def report(self, wildcards: Wildcards) -> Files:
        """Return what the report shows, the cohort's extras included."""
        cohort, paths = self.plan.cohort(wildcards), self.paths
        run = cohort.reported
        extras = {
            "ablations": paths.ablations,
            "samplers": paths.samplers,
            "leak_audit": paths.leak_audit,
            "stain": paths.stain,
        }
        patterns = [*map(paths.evaluation, REPORTED), paths.cohort, paths.splits]
        patterns += [paths.gene_set_facts, paths.abstention]
        patterns += [extras[name] for name in cohort.settings["extras"]]
        found = [p.format(cohort=cohort.name, run=run.name, set=run.pathways) for p in patterns]
        for pattern in (paths.training_log, paths.shift):
            found += self._of_runs(pattern, wildcards, [run])
        found += self._shards(paths.features_shard, cohort.name, run.encoder)
        return found + (self._shards(paths.tiles_shard, cohort.name) if cohort.has_tiles else [])

    def _shards(self, pattern: str, cohort: str, encoder: str = "") -> list[str]:
        shards = self.plan.cohorts[cohort].shards
        return [pattern.format(cohort=cohort, encoder=encoder, shard=shard) for shard in shards]

    def _of_runs(self, pattern: str, wildcards: Wildcards, runs: Iterable[PlannedRun]) -> list[str]:
        """Return a path of each fold of some runs of a cohort."""
        cohort = self.plan.cohort(wildcards)
        return [
            pattern.format(cohort=cohort.name, run=run.name, fold=fold)
            for run in runs
            for fold in cohort.folds
        ]

    def own_weights(self, wildcards: Wildcards) -> Files:
        """Return the user's own file of an encoder's weights."""
        return _weights_files(self.plan.cohort(wildcards).features[wildcards.encoder])

    def _weights(self, cohort: str, features: Settings) -> Files:
        return _weights_files(self.plan.with_weights(cohort, features))


def _weights_files(features: Settings) -> Files:
    """Return the files of an encoder's weights: none, one, or one for each of several encoders."""
    if features["encoder"] in ("color", "files"):
        return []
    weights = features["weights"] or []
    return list(weights.values()) if isinstance(weights, dict) else weights


def _named_files(cohort: CohortPlan, *keys: str) -> list[str]:
    """Return the files that a cohort's block names; `published` is a word, not a file."""
    named = [cohort.block.get(key, "published") for key in keys]
    return [name for name in named if name != "published"]
