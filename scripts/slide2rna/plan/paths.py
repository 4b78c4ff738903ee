"""Paths of the results folder: each one once, as a pattern with Snakemake's wildcards in braces.

The wildcards are cohort, shard, encoder, set, run and fold; number and share of resampled bags;
and train, the training cohort of an external pair. `pattern.format(cohort="demo", ...)` gives a
file's path.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CohortPath:
    """A path below a cohort's folder, or below `folder`; as an attribute of `Paths` the whole."""

    below: str
    folder: str = "{cohort}"

    def __get__(self, paths: Paths, owner: type[Paths]) -> str:
        return f"{paths.results}/{self.folder}/{self.below}"


PARTNERS = "pan/{cohort}/{run}"


@dataclass(frozen=True)
class Paths:
    """Every file that a rule reads or leaves, in the order of the flow.

    Attributes
    ----------
    results : the results folder; its braces, if any, would be wildcards.
    """

    results: str

    # A generator's mark and truth, and the features that a law draws.
    source_mark = CohortPath("source/done.json")
    source_sheet = CohortPath("source/sheet.tsv")
    truth_genes = CohortPath("source/truth_genes.parquet")
    law_features = CohortPath("source/features")
    # The frozen cohort.
    slides = CohortPath("slides.parquet")
    expression = CohortPath("expression.parquet")
    gene_names = CohortPath("gene_names.parquet")
    cohort = CohortPath("cohort.json")
    splits = CohortPath("splits.tsv")
    splits_digest = CohortPath("splits.tsv.sha256")
    guard = CohortPath("guard.json")
    # Not declared: the digest of a manifest that this folder's run has frozen itself.
    frozen_manifest = CohortPath("frozen_manifest.json")
    # Manifests of a shard, and what becomes of its slides.
    slides_shard = CohortPath("slides/shard-{shard}.parquet")
    tiles_shard = CohortPath("tiles/shard-{shard}.parquet")
    features_shard = CohortPath("features/{encoder}/shard-{shard}.parquet")
    lite0_weights = CohortPath("weights/lite0.pth")
    bags = CohortPath("bags/{encoder}.safetensors")
    resampled_bags = CohortPath("bags/{encoder}/resamples-{number}-{share}.safetensors")
    gene_sets = CohortPath("pathways/{set}.parquet")
    gene_set_facts = CohortPath("pathways/{set}.json")
    # A run, fold by fold.
    model_weights = CohortPath("models/{run}/fold-{fold}/model.safetensors")
    model = CohortPath("models/{run}/fold-{fold}/model.json")
    training_log = CohortPath("models/{run}/fold-{fold}/log.parquet")
    search = CohortPath("models/{run}/fold-{fold}/search.parquet")
    training_record = CohortPath("models/{run}/fold-{fold}/training_record.parquet")
    draws = CohortPath("draws/{run}/fold-{fold}.zarr")
    draw_summary = CohortPath("draws/{run}/fold-{fold}.parquet")
    shift = CohortPath("shift/{run}/fold-{fold}.parquet")
    shift_reference = CohortPath("shift/{run}/fold-{fold}.safetensors")
    abstention = CohortPath("shift/{run}/abstention.parquet")
    # The package of a run, for new slides.
    predictor = CohortPath("models/{run}/predictor.json")
    model_card = CohortPath("models/{run}/README.md")
    packaged_genes = CohortPath("models/{run}/genes.parquet")
    packaged_pathways = CohortPath("models/{run}/pathways.parquet")
    packaged_conformal = CohortPath("models/{run}/conformal.parquet")
    training_slides = CohortPath("models/{run}/known_slides.parquet")
    packaged_references = CohortPath("models/{run}/familiar")
    # Studies of a run.
    stain = CohortPath("stain/{run}/stain.parquet")
    stain_slides = CohortPath("stain/{run}/slides.parquet")
    stain_genes = CohortPath("stain/{run}/genes.parquet")
    ablations = CohortPath("ablations/{run}/ablations.parquet")
    ablation_pathways = CohortPath("ablations/{run}/pathways.parquet")
    ablation_figure = CohortPath("ablations/{run}/ablations")
    # A run with partners, beside itself without them.
    partners = CohortPath("ablations.parquet", PARTNERS)
    partner_pathways = CohortPath("pathways.parquet", PARTNERS)
    partner_figure = CohortPath("ablations", PARTNERS)
    partner_log = CohortPath("score.log", PARTNERS)
    partner_benchmark = CohortPath("score.tsv", PARTNERS)
    samplers = CohortPath("samplers/{run}/samplers.parquet")
    sampler_figure = CohortPath("samplers/{run}/samplers")
    sampler_draws = CohortPath("samplers/{run}/draws/fold-{fold}")
    student_weights = CohortPath("samplers/{run}/student/fold-{fold}/model.safetensors")
    student = CohortPath("samplers/{run}/student/fold-{fold}/model.json")
    student_log = CohortPath("samplers/{run}/student/fold-{fold}/log.parquet")
    leak_audit = CohortPath("leak_audit/audit.parquet")
    leak_audit_figure = CohortPath("leak_audit/leak_audit")
    # Models of the cohort {train} on the slides of {cohort}.
    external_splits = CohortPath("external/{train}/splits.tsv")
    external_splits_digest = CohortPath("external/{train}/splits.tsv.sha256")
    external_draws = CohortPath("external/{train}/{run}/fold-{fold}.zarr")
    external_draw_summary = CohortPath("external/{train}/{run}/fold-{fold}.parquet")
    external_figures = CohortPath("external/{train}/{run}/figures")
    external_page = CohortPath("external/{train}/{run}/index.html")
    # What people and other programs open.
    export = CohortPath("export/{run}.h5ad")
    export_slides = CohortPath("export/{run}_slides_mqc.tsv")
    report = CohortPath("report/index.html")
    report_figures = CohortPath("report/figures")

    @property
    def folder(self) -> str:
        """A cohort's folder."""
        return f"{self.results}/{{cohort}}"

    def of_train(self, pattern: str) -> str:
        """Return the same path of an external pair's training cohort."""
        return pattern.replace("{cohort}", "{train}")

    def features_of(self, encoder: str) -> str:
        """Return the path of a shard's features by one encoder."""
        return self.features_shard.replace("{encoder}", encoder)

    def evaluation(self, table: str) -> str:
        """Return the path of one of a run's tables of scores."""
        return f"{self.folder}/evaluation/{{run}}/{table}.parquet"

    def external(self, table: str) -> str:
        """Return the path of a table of scores on the test cohort of an external pair."""
        return f"{self.folder}/external/{{train}}/{{run}}/{table}.parquet"

    def log(self, job: str) -> str:
        """Return the path of a job's log; `job` may have wildcards."""
        return f"{self.folder}/logs/{job}.log"

    def benchmark(self, job: str) -> str:
        """Return the path of a job's time and memory."""
        return f"{self.folder}/benchmarks/{job}.tsv"
