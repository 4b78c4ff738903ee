"""Pairing of slides with expression files, with a reason for each file that is dropped.

A row is dropped at one of three steps and keeps its reason, so that the frozen table is its own
audit: `kind` (not a diagnostic slide), `tissue` (not the requested tumour), `pairing` (no partner,
or another file was chosen).
"""

from __future__ import annotations

import polars as pl

from slide2rna.cohort.gdc import SCHEMA as FILE_SCHEMA
from slide2rna.core.types import Row

STEPS = {
    "kind": "of the kind asked for",
    "tissue": "of the tumour asked for",
    "pairing": "paired with expression",
}
SCHEMA = FILE_SCHEMA | {
    "slide_id": pl.String,
    "sample_id": pl.String,
    "site": pl.String,
    "slides_of_patient": pl.Int64,
    "left_at": pl.String,
    "reason": pl.String,
}
KEYS = ("patient_id", "sample_type")
NORMAL = pl.col("sample_type").is_in([str(code) for code in range(10, 15)])
ANALYTE = r"^TCGA-\w{2}-\w{4}-\d{2}[A-Z]-\d{2}([A-Z])"


def pair(
    slides: pl.DataFrame,
    expression: pl.DataFrame,
    patients: list[str],
    kind: str = "diagnostic",
    sample_types: tuple[str, ...] = ("01",),
) -> pl.DataFrame:
    """Pair slides with expression, tumour to tumour.

    Parameters
    ----------
    slides, expression
        Files with the columns of `gdc.SCHEMA`.
    patients
        All patients of the project, so that those without files are listed too.
    kind
        `diagnostic` keeps diagnostic slides of TCGA and FFPE slides of CPTAC; `all` keeps frozen
        tissue too.
    sample_types
        Codes to keep: 01 is a primary tumour, 02 a recurrence, 06 a metastasis. Codes of normal
        tissue never pair.

    Returns
    -------
    polars.DataFrame
        The columns of `SCHEMA`: every file, and a row of kind `patient` for each patient without
        a slide or without expression; retained rows have no `reason`. For a retained slide,
        `sample_id` is the sample whose expression it is paired with, and `slides_of_patient` is
        the number of its patient's retained slides.

    Notes
    -----
    A slide pairs with expression of the same patient and the same sample type. If a patient has
    several expression files of a type, one is chosen: the first sample (vial A before B), then
    analyte H before R before T, then the aliquot that sorts last (highest portion and plate),
    then the lowest uuid. All rules except the first are those of the Broad Institute's GDAC:
    https://broadinstitute.atlassian.net/wiki/spaces/GDAC/pages/844334036/FAQ
    """
    slides = _drop_other_tissue(_drop_other_kinds(_add_ids(slides), kind), sample_types)
    expression = _drop_other_tissue(_add_ids(expression), sample_types)
    expression = _choose_files(expression)
    remaining = pl.col("left_at").is_null()
    samples = expression.filter(remaining).select(*KEYS, pl.col("sample_id").alias("paired"))
    slides = slides.join(samples, on=KEYS, how="left", maintain_order="left")
    reason = "the patient has no expression of sample type " + pl.col("sample_type")
    slides = _drop(slides, "pairing", pl.col("paired").is_null(), reason)
    slides = _drop(
        slides,
        "pairing",
        pl.col("md5").is_not_null()
        & ~pl.struct("patient_id", "md5").is_first_distinct().over(remaining),
        pl.lit("the same file is there under another name"),
    ).with_columns(pl.when(remaining).then("paired").alias("sample_id"))
    with_slide = slides.filter(remaining).select(*KEYS).unique()
    without_slide = expression.join(with_slide, on=KEYS, how="anti")["uuid"].implode()
    reason = "the patient has no slide of sample type " + pl.col("sample_type")
    expression = _drop(expression, "pairing", pl.col("uuid").is_in(without_slide), reason)
    slide_count = pl.when(remaining).then(remaining.sum().over("patient_id"))
    slides = slides.with_columns(slide_count.cast(pl.Int64).alias("slides_of_patient"))
    table = pl.concat([t.select(list(SCHEMA)) for t in (slides, expression)])
    return pl.concat([table, _patients_without_files(table, patients)], how="diagonal")


def flow(table: pl.DataFrame, kind: str = "slide") -> list[Row]:
    """Count the files and patients left after each step, for cohort.json and its figure."""
    rows = table.filter(pl.col("kind") == kind)
    unit = "slides" if kind == "slide" else "files"
    steps = [{"step": "listed", unit: rows.height, "patients": rows["patient_id"].n_unique()}]
    for step, label in STEPS.items():
        rows = rows.filter((pl.col("left_at") != step).fill_null(True))
        steps.append({"step": label, unit: rows.height, "patients": rows["patient_id"].n_unique()})
    return steps


def dropped(table: pl.DataFrame) -> list[Row]:
    """Return all dropped rows, for the report."""
    rows = table.filter(pl.col("reason").is_not_null())
    file_id = pl.coalesce("slide_id", "aliquot", "name").alias("slide_id")
    return rows.select(file_id, "patient_id", "kind", "reason").rows(named=True)


def _add_ids(table: pl.DataFrame) -> pl.DataFrame:
    """Add ids, site and audit columns; drop files that don't belong to exactly one patient."""
    barcode = pl.col("patient_id").str.extract(r"^TCGA-(\w{2})-\w{4}$")
    slide = pl.when(pl.col("kind") == "slide").then(pl.col("name").str.replace(r"\.[^.]*$", ""))
    table = table.sort("uuid").with_columns(
        slide.alias("slide_id"),
        pl.col("specimen").str.split(";").list.first().alias("sample_id"),
        # The tissue source site, a hospital: characters 6 and 7 of the barcode.
        barcode.alias("site"),
        pl.lit(None, pl.Int64).alias("slides_of_patient"),
        pl.lit(None, pl.String).alias("left_at"),
        pl.lit(None, pl.String).alias("reason"),
    )
    several = pl.col("patient_id").str.contains(";", literal=True).fill_null(True)
    return _drop(table, "kind", several, pl.lit("not of exactly one patient"))


def _drop(table: pl.DataFrame, step: str, where: pl.Expr, reason: pl.Expr) -> pl.DataFrame:
    """Mark rows as dropped; rows dropped earlier keep their step and reason."""
    newly_dropped = pl.col("left_at").is_null() & where
    return table.with_columns(
        pl.when(newly_dropped).then(reason).otherwise("reason").alias("reason"),
        pl.when(newly_dropped).then(pl.lit(step)).otherwise("left_at").alias("left_at"),
    )


def _drop_other_kinds(slides: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Drop slides that are not diagnostic, unless `kind` is `all`."""
    if kind == "all":
        return slides
    medium = pl.col("medium").fill_null("of unknown medium")
    is_diagnostic = medium.is_in(["Diagnostic Slide", "FFPE"])
    return _drop(slides, "kind", ~is_diagnostic, "no diagnostic slide: " + medium)


def _drop_other_tissue(table: pl.DataFrame, sample_types: tuple[str, ...]) -> pl.DataFrame:
    """Drop files of normal tissue and of sample types that were not requested."""
    code = pl.col("sample_type")
    table = _drop(table, "tissue", code.is_null(), pl.lit("sample type unknown"))
    mixed = code.str.contains(";", literal=True)
    table = _drop(table, "tissue", mixed, "several sample types: " + code)
    table = _drop(table, "tissue", NORMAL, "normal tissue, sample type " + code)
    other = ~code.is_in(list(sample_types))
    return _drop(table, "tissue", other, "sample type " + code + " was not asked for")


def _choose_files(expression: pl.DataFrame) -> pl.DataFrame:
    """Keep one file per patient and sample type, by the rules of `pair`."""
    order = {"H": 0, "R": 1, "T": 2}
    analyte = pl.col("aliquot").str.extract(ANALYTE).replace_strict(order, default=3)
    ranked = expression.with_columns(analyte.alias("analyte")).sort(
        [*KEYS, "sample_id", "analyte", "aliquot", "uuid"],
        descending=[False, False, False, False, True, False],
        nulls_last=True,
    )
    remaining = pl.col("left_at").is_null()
    best = ranked.filter(remaining).unique(KEYS, keep="first", maintain_order=True)
    best = best.select(*KEYS, pl.col("uuid").alias("best"), pl.col("aliquot").alias("taken"))
    expression = expression.join(best, on=KEYS, how="left", maintain_order="left")
    other = (pl.col("uuid") != pl.col("best")).fill_null(False)
    reason = "another file was taken: " + pl.coalesce("taken", "best")
    return _drop(expression, "pairing", other, reason).drop("best", "taken")


def _patients_without_files(table: pl.DataFrame, patients: list[str]) -> pl.DataFrame:
    """Return a row for each patient who has no slide or no expression in the project."""
    by_patient = pl.DataFrame({"patient_id": patients}, schema={"patient_id": pl.String})
    for kind in ("slide", "expression"):
        patient_ids = table.filter(pl.col("kind") == kind)["patient_id"].drop_nulls().str.split(";")
        with_file = patient_ids.explode().unique().implode()
        by_patient = by_patient.with_columns(pl.col("patient_id").is_in(with_file).alias(kind))
    missing = (
        pl.when(~pl.col("slide") & ~pl.col("expression"))
        .then(pl.lit("the project has neither slide nor expression of this patient"))
        .when(~pl.col("slide"))
        .then(pl.lit("the project has no slide of this patient"))
        .when(~pl.col("expression"))
        .then(pl.lit("the project has no expression of this patient"))
    )
    rows = by_patient.select(
        "patient_id",
        missing.alias("reason"),
        pl.lit("patient").alias("kind"),
        pl.lit("pairing").alias("left_at"),
    )
    return rows.filter(pl.col("reason").is_not_null())
