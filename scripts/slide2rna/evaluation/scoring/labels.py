"""Labels of models and gene sets: their order in the report, and their descriptions."""

from __future__ import annotations

import polars as pl

from slide2rna.core.types import Row

RIDGES = ("ridge", "ridge-lowrank")
# Models without morphology. A model that doesn't beat them has learned nothing from the slides.
NULLS = ("site-mean", "color-ridge", "permuted", "constant")
REPEAT = ".seed-"

DESCRIPTIONS = {
    "flow": "flow matching from noise to a profile, pathways as tokens (RNA-FM)",
    "he2rna": "a score per tile cluster, the highest averaged (HE2RNA; Schmauch et al. 2020)",
    "trnasformer": "a vision transformer over tile clusters (tRNAsformer; Alsaafin et al. 2023)",
    "sequoia": "a transformer of linear cost over tile clusters (SEQUOIA; Pizurica et al. 2024)",
    "abmil": "the mean of tile clusters weighted by gated attention (Ilse et al. 2018)",
    "ridge": "a ridge on the mean of the slide's tiles",
    "ridge-lowrank": "a ridge from the mean of the slide's tiles to the main components of the "
    "train profiles; its draws add the residuals of train samples",
    "site-mean": "the mean of the patient's site, which ignores the image",
    "color-ridge": "a ridge on six colour numbers of the slide",
    "permuted": "the ridge, trained on permuted profiles",
    "constant": "the train mean",
    "memoriser": "the patient's own profile if it was in training, otherwise another patient's",
}


def model_kind(model: str, main: str) -> str:
    """Return the kind of a model: main, network, ridge or null."""
    if model == main:
        return "main"
    if model in NULLS:
        return "null"
    return "ridge" if model in RIDGES else "network"


def ordered_models(summary: pl.DataFrame, main: str) -> list[str]:
    """Return models with a PCC: main, networks, ridge, nulls; without repeats on other seeds."""
    scored = summary.filter((pl.col("metric") == "pcc") & pl.col("value").is_not_null())
    models = scored["model"].unique(maintain_order=True).to_list()
    listed = list(DESCRIPTIONS)
    kinds = ("main", "network", "ridge", "null")

    def key(name: str) -> tuple[int, int, str]:
        base = name.partition(".")[0]
        position = listed.index(base) if base in listed else len(listed)
        return kinds.index(model_kind(name, main)), position, name

    return sorted((name for name in models if REPEAT not in name), key=key)


def model_description(model: str) -> str:
    """Describe a model; for a variant, describe its base and name the change."""
    base, _, variant = model.partition(".")
    text = DESCRIPTIONS.get(base, "")
    return f"{text}; {variant.replace('-', ' ')}" if variant and text else text


def pick(table: pl.DataFrame, **values: object) -> Row | None:
    """Return the first row of a table with these values, or None if no row has them."""
    rows = table.filter([pl.col(key) == value for key, value in values.items()])
    return rows.row(0, named=True) if rows.height else None


def clean_rows(summary: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the clean protocol."""
    return summary.filter(pl.col("protocol") == "clean")


def gene_sets(summary: pl.DataFrame) -> list[str]:
    """Return the gene sets: all, then T-k with falling k; sets with another name last."""
    return sorted(
        summary["gene_set"].unique(), key=lambda name: (name != "all", -_set_size(name), name)
    )


def _set_size(gene_set: str) -> int:
    """Return the k of T-k, 0 for another set."""
    return int(gene_set[1:]) if gene_set[:1] == "T" and gene_set[1:].isdigit() else 0


def headline_set(sets: list[str]) -> str | None:
    """Return T100, or else the next larger set in the list, or else the largest."""
    sizes = sorted(size for name in sets if (size := _set_size(name)))
    if not sizes:
        return None
    return f"T{next((size for size in sizes if size >= 100), sizes[-1])}"


def shown_sets(sets: list[str]) -> list[str]:
    """Return the gene sets that the text discusses: all genes and the headline set."""
    return [name for name in ("all", headline_set(sets)) if name is not None]


def gene_set_title(gene_set: str) -> str:
    """Return the name for a heading or a label."""
    return "All genes" if gene_set == "all" else gene_set


def gene_set_name(gene_set: str) -> str:
    """Return the name for use within a sentence."""
    return "all genes" if gene_set == "all" else gene_set
