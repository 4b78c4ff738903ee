"""Models of one cohort, all folds together, scored on another that they have never seen.

Nothing but the score comes from the other cohort's expression: genes are chosen on the training
cohort's val patients, means and sds are those of its train patients, and nothing is refitted.
Coverage is shown and not claimed: sites, stains and sequencing differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.core.config import Settings
from slide2rna.core.errors import LeakError, StageError
from slide2rna.core.files import write_stamped, write_text
from slide2rna.core.log import log
from slide2rna.data import patients
from slide2rna.evaluation import tables
from slide2rna.evaluation.gene_table import gene_table
from slide2rna.evaluation.scoring import folds, score
from slide2rna.evaluation.scoring.summary import summary_table
from slide2rna.evaluation.uncertainty import calibration
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
    draws : files of the train cohort's own folds, for their val points.
    external : files of the same models for the test cohort's slides.
    splits : the test cohort's units, all of them test in every fold.
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
        return patients.load_cohort(
            genes,
            folder / "bags" / f"{self.encoder}.safetensors",
            folder / "expression.parquet",
            folder / "slides.parquet",
            splits,
            folder / "cohort.json",
        )


def units(slides: Path, count: int, out: Path) -> None:
    """Write a split of `count` folds in which every unit is test, so that all slides are drawn."""
    names = pl.read_parquet(slides, columns=["unit"])["unit"].unique().sort()
    rows = pl.DataFrame({"unit": names}).join(pl.DataFrame({"fold": range(count)}), how="cross")
    table = rows.with_columns(pl.lit(PART).alias("part")).sort("fold", "unit")
    write_text(table.write_csv(separator="\t"), out)


def evaluate(
    inputs: ExternalInputs, run: str, out: str | Path, settings: Settings, seed: int, threads: int
) -> dict[str, Any]:
    """Write summary, genes and calibration as Parquet; returns the facts of the page.

    Raises
    ------
    StageError
        The cohorts share no gene, or the files don't belong together.
    """
    genes = folds.read_genes(inputs.draws[0])
    known = set(pl.read_parquet_schema(inputs.test / "expression.parquet"))
    shared = [gene for gene in genes if gene in known]
    if not shared:
        raise StageError(
            inputs.test / "expression.parquet",
            f"it has none of the models' {len(genes)} genes ({genes[0]} ...)",
            "use the same gene names in both cohorts",
        )
    log.info("%d of the models' %d genes are in the test cohort", len(shared), len(genes))
    of_test = inputs.cohort(inputs.test, shared, inputs.splits)
    of_train = inputs.cohort(inputs.train, genes, inputs.train / "splits.tsv")
    common = _check_apart(of_train.slides, of_test.slides)
    sets = score.load_members(inputs.pathways, shared)
    found = external_models.score(
        of_train, of_test, inputs.draws, inputs.external, genes, sets, settings, seed, threads
    )
    ours = found.folds[0]
    assert isinstance(ours, Ensemble)
    facts = {
        "train": of_train.info["name"],
        "test": of_test.info["name"],
        "run": run,
        "model": found.model,
        "fold_models": len(ours.members),
        "draws": ours.pool_size if found.draws else 0,
        "n_samples": len(ours.test.samples),
        "n_slides": len(ours.members[0].test.slide_ids),
        "n_train": len(ours.train.samples),
        "n_genes": len(shared),
        "n_genes_model": len(genes),
        "sets": found.set_names,
        "common": common,
        "caveat": of_test.info.get("caveat"),
    }
    summary = summary_table(found).filter(pl.col("protocol") == "clean").drop("protocol")
    made = {
        "summary": pl.concat([summary, _overlap(facts, summary)]),
        "genes": gene_table(found),
        "calibration": calibration.table(found),
        "pathways": tables.pathway_table(found),
    }
    own = f"models of {facts['train']}, all folds together; {NOT_CLAIMED}"
    caveat = "; ".join(filter(None, [of_test.info.get("caveat"), own]))
    for name, table in made.items():
        stamp = {"cohort": facts["test"], "run": run, "protocol": PROTOCOL}
        write_stamped(table, Path(out) / f"{name}.parquet", stamp, caveat)
    return facts


def _check_apart(train: pl.DataFrame, test: pl.DataFrame) -> int:
    """The number of patient names that both cohorts have; two labs may both have a patient 1.

    Raises
    ------
    LeakError
        The same slide file, by md5, is in both.
    """
    files = train.filter(pl.col("md5").is_not_null()).join(test, on="md5", suffix="_test")
    if files.height:
        first = files.sort("slide_id").row(0, named=True)
        cause = f"slide {first['slide_id']} is the same file as {first['slide_id_test']}"
        raise LeakError("external", f"{cause} of the other cohort", "take it out of one of them")
    return len(set(train["patient_id"]) & set(test["patient_id"]))


def _overlap(facts: dict[str, Any], summary: pl.DataFrame) -> pl.DataFrame:
    """The summary's row that says how many of the models' genes are scored."""
    row = {"model": facts["model"], "gene_set": "all", "metric": "genes_shared"}
    row |= {"value": float(facts["n_genes"]), "n_genes": facts["n_genes_model"]}
    row |= {"note": f"genes of the models that {facts['test']} has; the others are not scored"}
    counts = summary.select("n_patients", "n_samples").row(0, named=True)
    return pl.DataFrame([row | counts], schema=summary.schema)
