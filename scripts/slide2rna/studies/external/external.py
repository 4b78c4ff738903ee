"""External validation: the fold models of one cohort together, scored on an unseen cohort.

The other cohort's expression is used for scoring only: genes are chosen on the training cohort's
val patients, means and sds are those of its train patients, and nothing is refitted. Coverage is
reported without a claim: sites, stains and sequencing differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import polars as pl

from slide2rna.core.errors import LeakError, StageError
from slide2rna.core.log import log
from slide2rna.core.settings import EvaluateSettings
from slide2rna.core.types import Row
from slide2rna.data import patients
from slide2rna.evaluation import tables
from slide2rna.evaluation.gene_table import gene_table
from slide2rna.evaluation.scoring import folds, score
from slide2rna.evaluation.scoring.summary import summary_table
from slide2rna.evaluation.uncertainty import calibration
from slide2rna.storage import parquet, split_file
from slide2rna.studies.external import external_models
from slide2rna.studies.external.ensemble import Ensemble

PROTOCOL = "external"
PART = "test"
NOT_CLAIMED = "coverage across sites is not claimed"


@dataclass(frozen=True)
class ExternalInputs:
    """Files of the two cohorts.

    Attributes
    ----------
    train, test : results/<cohort>.
    encoder : name of the features of both.
    draws : files of the train cohort's folds, for their val points.
    external : files of the same models for the test cohort's slides.
    splits : split of the test cohort; all its units are test in every fold.
    pathways : gene sets of the models.
    """

    train: Path
    test: Path
    encoder: str
    draws: list[Path]
    external: list[Path]
    splits: Path
    pathways: Path

    def cohort(self, folder: Path, genes: Sequence[str], splits: Path) -> patients.Cohort:
        """Load one of the two cohorts."""
        return patients.load_cohort(
            genes,
            folder / "bags" / f"{self.encoder}.safetensors",
            folder / "expression.parquet",
            folder / "slides.parquet",
            splits,
            folder / "cohort.json",
        )


class ExternalFacts(TypedDict):
    """Facts of an external validation, for its page."""

    train: str
    test: str
    run: str
    model: str
    fold_models: int
    draws: int
    n_samples: int
    n_slides: int
    n_train: int
    n_genes: int
    n_genes_model: int
    sets: list[str]
    common: int
    caveat: str | None


def write_test_split(slides: Path, count: int, out: Path) -> None:
    """Write a split of `count` folds in which every unit is test, so that all are predicted."""
    names = parquet.read(slides, columns=["unit"])["unit"].unique().sort()
    rows = pl.DataFrame({"unit": names}).join(pl.DataFrame({"fold": range(count)}), how="cross")
    table = rows.with_columns(pl.lit(PART).alias("part")).sort("fold", "unit")
    split_file.write(table, out)


def evaluate(
    inputs: ExternalInputs,
    run: str,
    out: str | Path,
    settings: EvaluateSettings,
    seed: int,
    threads: int,
) -> ExternalFacts:
    """Write summary, genes, calibration and pathways as Parquet; return the facts of the page.

    Raises
    ------
    StageError
        The cohorts share no gene, or the files don't belong together.
    """
    genes = folds.read_genes(inputs.draws[0])
    test_genes = set(parquet.read_names(inputs.test / "expression.parquet"))
    shared = [gene for gene in genes if gene in test_genes]
    if not shared:
        raise StageError(
            inputs.test / "expression.parquet",
            f"it has none of the models' {len(genes)} genes ({genes[0]} ...)",
            "use the same gene names in both cohorts",
        )
    log.info("%d of the models' %d genes are in the test cohort", len(shared), len(genes))
    test = inputs.cohort(inputs.test, shared, inputs.splits)
    train = inputs.cohort(inputs.train, genes, inputs.train / "splits.tsv")
    common = _count_common_names(train.slides, test.slides)
    sets = score.load_members(inputs.pathways, shared)
    evaluated = external_models.score(
        train, test, inputs.draws, inputs.external, genes, sets, settings, seed, threads
    )
    ensemble = evaluated.folds[0]
    assert isinstance(ensemble, Ensemble)
    facts: ExternalFacts = {
        "train": train.info["name"],
        "test": test.info["name"],
        "run": run,
        "model": evaluated.model,
        "fold_models": len(ensemble.members),
        "draws": ensemble.pool_size if evaluated.draw_scores else 0,
        "n_samples": len(ensemble.test.samples),
        "n_slides": len(ensemble.members[0].test.slide_ids),
        "n_train": len(ensemble.train.samples),
        "n_genes": len(shared),
        "n_genes_model": len(genes),
        "sets": evaluated.set_names,
        "common": common,
        "caveat": test.info.get("caveat"),
    }
    summary = summary_table(evaluated).filter(pl.col("protocol") == "clean").drop("protocol")
    outputs = {
        "summary": pl.concat([summary, _gene_overlap(facts, summary)]),
        "genes": gene_table(evaluated),
        "calibration": calibration.table(evaluated),
        "pathways": tables.pathway_table(evaluated),
    }
    claim = f"models of {facts['train']}, all folds together; {NOT_CLAIMED}"
    caveat = "; ".join(filter(None, [test.info.get("caveat"), claim]))
    for name, table in outputs.items():
        stamp = {"cohort": facts["test"], "run": run, "protocol": PROTOCOL}
        parquet.write_stamped(table, Path(out) / f"{name}.parquet", stamp, caveat)
    return facts


def _count_common_names(train: pl.DataFrame, test: pl.DataFrame) -> int:
    """Count the patient names that both cohorts have; two labs may both have a patient 1.

    Raises
    ------
    LeakError
        The same slide file, by md5, is in both.
    """
    files = train.filter(pl.col("md5").is_not_null()).join(test, on="md5", suffix="_test")
    if files.height:
        first = files.sort("slide_id").row(0, named=True)
        cause = f"slide {first['slide_id']} is the same file as {first['slide_id_test']}"
        raise LeakError("external", f"{cause} of the other cohort", "remove it from one of them")
    return len(set(train["patient_id"]) & set(test["patient_id"]))


def _gene_overlap(facts: ExternalFacts, summary: pl.DataFrame) -> pl.DataFrame:
    """Return the summary's row with the number of the models' genes that are scored."""
    row: Row = {"model": facts["model"], "gene_set": "all", "metric": "genes_shared"}
    row |= {"value": float(facts["n_genes"]), "n_genes": facts["n_genes_model"]}
    row |= {"note": f"genes of the models that {facts['test']} has; the others are not scored"}
    counts = summary.select("n_patients", "n_samples").row(0, named=True)
    return pl.DataFrame([row | counts], schema=summary.schema)
