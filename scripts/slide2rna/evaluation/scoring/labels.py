"""The models of a summary table in the order in which the report shows them, and their words."""

from __future__ import annotations

import polars as pl

RIDGE = "ridge"
# What uses no morphology: a model that doesn't beat these has learned nothing from the slides.
NULLS = ("site-mean", "color-ridge", "permuted", "constant")
REPEAT = ".seed-"

WORDS = {
    "flow": "flow matching from noise to a profile, pathways as tokens (RNA-FM)",
    "he2rna": "a score per tile cluster, the highest averaged (HE2RNA; Schmauch et al. 2020)",
    "trnasformer": "a vision transformer over tile clusters (tRNAsformer; Alsaafin et al. 2023)",
    "sequoia": "a transformer of linear cost over tile clusters (SEQUOIA; Pizurica et al. 2024)",
    "abmil": "the mean of tile clusters weighted by gated attention (Ilse et al. 2018)",
    "ridge": "a ridge on the mean of the slide's tiles",
    "site-mean": "the mean of the patient's site, which ignores the image",
    "color-ridge": "a ridge on six colour numbers of the slide",
    "permuted": "the ridge, trained on permuted profiles",
    "constant": "the train mean",
    "memoriser": "a patient's own profile if it was in training, another patient's if not",
}


def kind(model: str, main: str) -> str:
    """Main, network, ridge or null."""
    if model == main:
        return "main"
    if model in NULLS:
        return "null"
    return "ridge" if model == RIDGE else "network"


def order(summary: pl.DataFrame, main: str) -> list[str]:
    """Models that have a PCC: main, networks, ridge, nulls; repeats with another seed left out."""
    scored = summary.filter((pl.col("metric") == "pcc") & pl.col("value").is_not_null())
    found = scored["model"].unique(maintain_order=True).to_list()
    known = list(WORDS)
    kinds = ("main", "network", "ridge", "null")

    def key(name: str) -> tuple[int, int, str]:
        base = name.partition(".")[0]
        place = known.index(base) if base in known else len(known)
        return kinds.index(kind(name, main)), place, name

    return sorted((name for name in found if REPEAT not in name), key=key)


def description(model: str) -> str:
    """What a model is; of a variant, what its base is and what was changed."""
    base, _, variant = model.partition(".")
    text = WORDS.get(base, "")
    return f"{text}; {variant.replace('-', ' ')}" if variant and text else text


def clean(summary: pl.DataFrame) -> pl.DataFrame:
    """The rows of the clean protocol."""
    return summary.filter(pl.col("protocol") == "clean")


def gene_sets(summary: pl.DataFrame) -> list[str]:
    """All, then T-k with falling k; sets with another name last."""
    return sorted(
        summary["gene_set"].unique(), key=lambda name: (name != "all", -_size(name), name)
    )


def _size(gene_set: str) -> int:
    """The k of T-k, 0 for another set."""
    return int(gene_set[1:]) if gene_set[:1] == "T" and gene_set[1:].isdigit() else 0


def headline_set(sets: list[str]) -> str | None:
    """T100, or the nearest larger set that is shown, or the largest there is."""
    sizes = sorted(size for name in sets if (size := _size(name)))
    if not sizes:
        return None
    return f"T{next((size for size in sizes if size >= 100), sizes[-1])}"


def shown_sets(sets: list[str]) -> list[str]:
    """All genes and the headline set: what sentences are written about."""
    return [name for name in ("all", headline_set(sets)) if name is not None]


def gene_set_title(gene_set: str) -> str:
    """As a heading or a label."""
    return "All genes" if gene_set == "all" else gene_set


def gene_set_name(gene_set: str) -> str:
    """Within a sentence."""
    return "all genes" if gene_set == "all" else gene_set
