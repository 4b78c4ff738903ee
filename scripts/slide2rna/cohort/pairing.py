"""Which slide goes with which expression file, and why the others don't.

A row leaves the table at one of three steps, and keeps the reason for good, so that the frozen
table is its own audit: `kind` (no diagnostic slide), `tissue` (not the tumour that was asked
for), `pairing` (nothing to pair with, or another file was chosen).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from slide2rna.cohort.gdc import SCHEMA as FILE_SCHEMA

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
        All patients of the project, so that those without files are named too.
    kind
        `diagnostic` keeps diagnostic slides of TCGA and FFPE slides of CPTAC; `all` keeps frozen
        tissue too.
    sample_types
        Codes that are wanted: 01 is a primary tumour, 02 a recurrence, 06 a metastasis. Codes of
        normal tissue never pair.

    Returns
    -------
    polars.DataFrame
        The columns of `SCHEMA`: every file, and a row of kind `patient` for each patient without
        a slide or without expression; kept rows have no `reason`. Of a kept slide `sample_id` is
        the sample whose expression it is paired with, and `slides_of_patient` says how many
        slides of its patient are kept.

    Notes
    -----
    A slide pairs with expression of the same patient and the same sample type. Where a patient
    has several expression files of a type, one is taken: the first sample (vial A before B), then
    analyte H before R before T, then the aliquot that sorts last (highest portion and plate),
    then the lowest uuid. All but the first are the rules of the Broad Institute's GDAC:
    https://broadinstitute.atlassian.net/wiki/spaces/GDAC/pages/844334036/FAQ
    """
    slides = _of_tissue(_of_kind(_prepared(slides), kind), sample_types)
    expression = _of_tissue(_prepared(expression), sample_types)
    expression = _chosen(expression)
    left = pl.col("left_at").is_null()
    samples = expression.filter(left).select(*KEYS, pl.col("sample_id").alias("paired"))
    slides = slides.join(samples, on=KEYS, how="left", maintain_order="left")
    nothing = "the patient has no expression of sample type " + pl.col("sample_type")
    slides = _drop(slides, "pairing", pl.col("paired").is_null(), nothing)
    slides = _drop(
        slides,
        "pairing",
        pl.col("md5").is_not_null()
        & ~pl.struct("patient_id", "md5").is_first_distinct().over(left),
        pl.lit("the same file is there under another name"),
    ).with_columns(pl.when(left).then("paired").alias("sample_id"))
    with_slide = slides.filter(left).select(*KEYS).unique()
    lonely = expression.join(with_slide, on=KEYS, how="anti")["uuid"].implode()
    nothing = "the patient has no slide of sample type " + pl.col("sample_type")
    expression = _drop(expression, "pairing", pl.col("uuid").is_in(lonely), nothing)
    kept = pl.when(left).then(left.sum().over("patient_id"))
    slides = slides.with_columns(kept.cast(pl.Int64).alias("slides_of_patient"))
    table = pl.concat([t.select(list(SCHEMA)) for t in (slides, expression)])
    return pl.concat([table, _without_files(table, patients)], how="diagonal")


def flow(table: pl.DataFrame, kind: str = "slide") -> list[dict[str, Any]]:
    """How many files and patients are left after each step, for cohort.json and its figure."""
    rows = table.filter(pl.col("kind") == kind)
    unit = "slides" if kind == "slide" else "files"
    steps = [{"step": "listed", unit: rows.height, "patients": rows["patient_id"].n_unique()}]
    for step, words in STEPS.items():
        rows = rows.filter((pl.col("left_at") != step).fill_null(True))
        steps.append({"step": words, unit: rows.height, "patients": rows["patient_id"].n_unique()})
    return steps


def dropped(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Every row that left, as the report shows it."""
    gone = table.filter(pl.col("reason").is_not_null())
    what = pl.coalesce("slide_id", "aliquot", "name").alias("slide_id")
    return gone.select(what, "patient_id", "kind", "reason").rows(named=True)


def _prepared(table: pl.DataFrame) -> pl.DataFrame:
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
    """Mark rows that hadn't left before; the others keep their own step and reason."""
    going = pl.col("left_at").is_null() & where
    return table.with_columns(
        pl.when(going).then(reason).otherwise("reason").alias("reason"),
        pl.when(going).then(pl.lit(step)).otherwise("left_at").alias("left_at"),
    )


def _of_kind(slides: pl.DataFrame, kind: str) -> pl.DataFrame:
    if kind == "all":
        return slides
    medium = pl.col("medium").fill_null("of unknown medium")
    right = medium.is_in(["Diagnostic Slide", "FFPE"])
    return _drop(slides, "kind", ~right, "no diagnostic slide: " + medium)


def _of_tissue(table: pl.DataFrame, sample_types: tuple[str, ...]) -> pl.DataFrame:
    code = pl.col("sample_type")
    table = _drop(table, "tissue", code.is_null(), pl.lit("sample type unknown"))
    mixed = code.str.contains(";", literal=True)
    table = _drop(table, "tissue", mixed, "several sample types: " + code)
    table = _drop(table, "tissue", NORMAL, "normal tissue, sample type " + code)
    other = ~code.is_in(list(sample_types))
    return _drop(table, "tissue", other, "sample type " + code + " was not asked for")


def _chosen(expression: pl.DataFrame) -> pl.DataFrame:
    """Leave one file per patient and sample type, by the rule in `pair`."""
    order = {"H": 0, "R": 1, "T": 2}
    analyte = pl.col("aliquot").str.extract(ANALYTE).replace_strict(order, default=3)
    ranked = expression.with_columns(analyte.alias("analyte")).sort(
        [*KEYS, "sample_id", "analyte", "aliquot", "uuid"],
        descending=[False, False, False, False, True, False],
        nulls_last=True,
    )
    left = pl.col("left_at").is_null()
    best = ranked.filter(left).unique(KEYS, keep="first", maintain_order=True)
    best = best.select(*KEYS, pl.col("uuid").alias("best"), pl.col("aliquot").alias("taken"))
    expression = expression.join(best, on=KEYS, how="left", maintain_order="left")
    other = (pl.col("uuid") != pl.col("best")).fill_null(False)
    reason = "another file was taken: " + pl.coalesce("taken", "best")
    return _drop(expression, "pairing", other, reason).drop("best", "taken")


def _without_files(table: pl.DataFrame, patients: list[str]) -> pl.DataFrame:
    """A row for each patient of whom the project has no slide or no expression at all."""
    names = pl.DataFrame({"patient_id": patients}, schema={"patient_id": pl.String})
    for kind in ("slide", "expression"):
        there = table.filter(pl.col("kind") == kind)["patient_id"].drop_nulls().str.split(";")
        named = there.explode().unique().implode()
        names = names.with_columns(pl.col("patient_id").is_in(named).alias(kind))
    missing = (
        pl.when(~pl.col("slide") & ~pl.col("expression"))
        .then(pl.lit("the project has neither slide nor expression of this patient"))
        .when(~pl.col("slide"))
        .then(pl.lit("the project has no slide of this patient"))
        .when(~pl.col("expression"))
        .then(pl.lit("the project has no expression of this patient"))
    )
    rows = names.select(
        "patient_id",
        missing.alias("reason"),
        pl.lit("patient").alias("kind"),
        pl.lit("pairing").alias("left_at"),
    )
    return rows.filter(pl.col("reason").is_not_null())
