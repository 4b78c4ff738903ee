"""Tables of the benchmark on real TCGA patients: rows of all cohorts, and a page of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from real_tcga_config import PATIENT, SITE, BenchmarkCohort
from slide2rna.evaluation.scoring.labels import clean_rows, ordered_models

EXTERNAL = "external"
SUMMARY_METRICS = r"^(pcc|pcc_draw_mean|pcc_within_site|pcc_floor|rmse_ratio|crps|genes_fdr05)$"
DIFFERENCES = r"^(pcc|crps|rmse)_minus:"
LEVELS = (0.5, 0.8, 0.9)
SCHEMA: dict[str, type[pl.DataType]] = {
    "split": pl.String,
    "cohort": pl.String,
    "model": pl.String,
    "quantity": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_patients": pl.Int64,
    "n_genes": pl.Int64,
    "note": pl.String,
}
TITLES = {
    PATIENT: "Five folds by patient",
    SITE: "Sites held out",
    EXTERNAL: "Trained on one cohort, scored on another",
}
# What is taken as draws where a model has none.
CRPS_OF = {"constant": "train profiles"}
BEST = 10
# Columns of the best signatures.
SHOWN = (
    *("pcc_draw_mean", "pcc_point", "pcc_ridge", "pcc_measured"),
    *("crps", "crps_train", "covered90"),
)
SIGNATURE_NOTE = """\
A ridge from measured genes to each signature, fitted on train patients, takes predicted genes to
it; normal noise of the size of its error on val is added to each draw. pcc_measured takes the
measured genes of the test patients: what a perfect prediction would give. crps_ratio is the CRPS
of draws over that of the train values. The best are picked by test scores, which flatters them;
the means are over all signatures."""


def cohort_rows(results: Path, cohort: BenchmarkCohort, run: str) -> pl.DataFrame:
    """Return the rows of a finished cohort, on all genes.

    Quantities
    ----------
    As in summary.parquet; coverage50 ..., pathway_coverage50 ... and pathway_crps of calibration;
    gsc and gsc_minus:KIND of coexpression, whose model is `model, kind`.
    """
    evaluation = results / cohort.name / "evaluation" / run
    summary = pl.read_parquet(evaluation / "summary.parquet")
    calibration = pl.read_parquet(evaluation / "calibration.parquet")
    coexpression = pl.read_parquet(evaluation / "coexpression.parquet")
    main = _main_model(run)
    patients = clean_rows(summary)["n_patients"].max()
    percent = (pl.col("nominal") * 100).round(0).cast(pl.Int64).cast(pl.String)
    covered = calibration.filter(
        pl.col("quantity").is_in(["coverage", "pathway_coverage"]), within="pooled"
    ).filter(pl.col("gene_set").is_in(["all", "pathways"]))
    intervals = covered.select(
        _kind_of(main),
        pl.concat_str("quantity", percent).alias("quantity"),
        pl.col("covered").alias("value"),
        "low",
        "high",
        "note",
    )
    scores = calibration.filter(quantity="pathway_crps", within="pooled")
    crps = scores.select(_kind_of(main), "quantity", "value", "low", "high", "note")
    gsc = coexpression.filter(pl.col("metric").str.starts_with("gsc"), gene_set="all").select(
        pl.concat_str("model", "kind", separator=", ").alias("model"),
        pl.col("metric").alias("quantity"),
        *("value", "low", "high", "n_patients", "n_genes", "note"),
    )
    stamped = [
        frame.with_columns(pl.lit(patients, dtype=pl.Int64).alias("n_patients"))
        for frame in (intervals, crps)
    ]
    return _stamp([_summary_rows(summary), *stamped, gsc], cohort.split, cohort.name)


def _kind_of(main: str) -> pl.Expr:
    return pl.concat_str(pl.lit(main), "kind", separator=", ").alias("model")


def external_rows(results: Path, train: str, test: str, run: str) -> pl.DataFrame:
    """Return correlations of the fold models of one cohort on another.

    Z-scores were made within each cohort, so errors across cohorts mean nothing.
    """
    path = results / test / "external" / train / run / "summary.parquet"
    summary = _summary_rows(pl.read_parquet(path))
    rows = summary.filter(pl.col("quantity").str.contains(r"^pcc($|_minus:|_floor$|_draw_mean$)"))
    return _stamp([rows], EXTERNAL, f"{train} on {test}")


def _summary_rows(summary: pl.DataFrame) -> pl.DataFrame:
    shown = pl.col("metric").str.contains(SUMMARY_METRICS)
    shown |= pl.col("metric").str.contains(DIFFERENCES)
    shown &= pl.col("protocol").is_in(["clean", EXTERNAL])
    return summary.filter(shown, gene_set="all").select(
        "model",
        pl.col("metric").alias("quantity"),
        *("value", "low", "high", "n_patients", "n_genes", "note"),
    )


def _stamp(frames: Sequence[pl.DataFrame], split: str, cohort: str) -> pl.DataFrame:
    rows = pl.concat(frames, how="diagonal_relaxed").with_columns(
        pl.lit(split).alias("split"), pl.lit(cohort).alias("cohort")
    )
    absent = [pl.lit(None).alias(name) for name in SCHEMA if name not in rows.columns]
    return rows.with_columns(absent).select(
        pl.col(name).cast(kind) for name, kind in SCHEMA.items()
    )


def _main_model(run: str) -> str:
    return run.split("-")[1]


def page(table: pl.DataFrame, signatures: pl.DataFrame, notes: Sequence[str]) -> str:
    """Return the tables as Markdown."""
    out = ["# Real patients", *notes]
    for split, title in TITLES.items():
        rows = table.filter(split=split)
        if rows.is_empty():
            continue
        out += [f"## {title}", "PCC of all genes, 95 % interval over patients", _pcc(rows, "pcc")]
        out += ["PCC minus that of the ridge, paired", _pcc(rows, "pcc_minus:ridge")]
        if split != EXTERNAL:
            out += ["Draws", _distribution(rows)]
    out += _signature_sections(signatures)
    return "\n\n".join(out) + "\n"


def _pcc(rows: pl.DataFrame, quantity: str) -> str:
    """Return a row per model and a column per cohort."""
    found = rows.filter(quantity=quantity)
    cohorts = rows["cohort"].unique(maintain_order=True).to_list()
    counts: dict[str, Any] = {c: rows.filter(cohort=c)["n_patients"].max() for c in cohorts}
    cells = {(r["model"], r["cohort"]): _cell(r) for r in found.iter_rows(named=True)}
    first = rows.filter(quantity="pcc").with_columns(pl.col("quantity").alias("metric"))
    order = [name for name in ordered_models(first, first["model"][0]) if name != "constant"]
    lines = [[name, *(cells.get((name, c), "") for c in cohorts)] for name in order]
    return _markdown(["model", *(f"{c}, n {counts[c]}" for c in cohorts)], lines)


def _distribution(rows: pl.DataFrame) -> str:
    """Return a row per quantity of the draws and a column per cohort."""
    cohorts = rows["cohort"].unique(maintain_order=True).to_list()
    main = rows.filter(quantity="pcc")["model"][0]
    scored = rows.filter(quantity="crps")["model"].unique(maintain_order=True).to_list()
    asked = [(f"CRPS, {CRPS_OF.get(name, name)}", name, "crps") for name in scored]
    for name in scored:
        title = f"CRPS, {main} minus {CRPS_OF.get(name, name)}"
        asked.append((title, main, f"crps_minus:{name}"))
    for level in LEVELS:
        asked.append((f"{level:.0%} intervals hold", f"{main}, draws", f"coverage{100 * level:g}"))
    kinds = rows.filter(quantity="gsc")["model"].unique(maintain_order=True).to_list()
    asked += [(f"co-expression (GSC), {kind}", kind, "gsc") for kind in kinds]
    asked.append(("GSC of draws minus the point's", f"{main}, draws", f"gsc_minus:{main}/point"))
    lines = []
    for title, model, quantity in asked:
        found = rows.filter(model=model, quantity=quantity)
        cells = {row["cohort"]: _cell(row) for row in found.iter_rows(named=True)}
        if cells:
            lines.append([title, *(cells.get(cohort, "") for cohort in cohorts)])
    return _markdown(["", *cohorts], lines)


def _signature_sections(signatures: pl.DataFrame) -> list[str]:
    """Return the means over the signatures per cohort, and the best signatures of each."""
    if signatures.is_empty():
        return []
    means = signatures.filter(signature="mean")
    out = ["## Immune signatures", SIGNATURE_NOTE]
    for split in means["split"].unique(maintain_order=True):
        rows = means.filter(split=split)
        cohorts = rows["cohort"].unique(maintain_order=True).to_list()
        lines = []
        for quantity in rows["quantity"].unique(maintain_order=True):
            found = rows.filter(quantity=quantity).iter_rows(named=True)
            cells = {row["cohort"]: _cell(row) for row in found}
            lines.append([quantity, *(cells.get(cohort, "") for cohort in cohorts)])
        out += [f"Means over the signatures: {TITLES[split]}", _markdown(["", *cohorts], lines)]
    best = signatures.filter(pl.col("quantity") == "signature", split=PATIENT)
    for cohort in best["cohort"].unique(maintain_order=True):
        top = (
            best.filter(cohort=cohort)
            .sort("pcc_draw_mean", descending=True, nulls_last=True)
            .head(BEST)
        )
        lines = [
            [row["signature"], *(_number(row[name]) for name in SHOWN), str(row["n_missing"])]
            for row in top.iter_rows(named=True)
        ]
        out += [f"{cohort}: the best {len(lines)}"]
        out.append(_markdown(["signature", *SHOWN, "n_missing"], lines))
    return out


def _cell(row: dict[str, Any]) -> str:
    value = _number(row["value"])
    ends = [row["low"], row["high"]]
    return value if None in ends else f"{value} [{_number(ends[0])}, {_number(ends[1])}]"


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
