"""Web page of one slide's prediction, for pathologists who are new to this program."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from slide2rna import __version__
from slide2rna.core import files
from slide2rna.core.types import Row
from slide2rna.package import training_slides
from slide2rna.package.model_card import encoder_licence
from slide2rna.package.reliability import GENE_RULE, GOOD, NONE, PATHWAY_RULE, UNKNOWN, WEAK
from slide2rna.pages import html
from slide2rna.predict.predict import Prediction
from slide2rna.report.figures import style
from slide2rna.report.figures.style import BLUE, GREY, axes_for, styled
from slide2rna.report.sections import gene_browser
from slide2rna.studies.shift.decision import CAL, TRAIN, ShiftDecision

TOP_PATHWAYS = 20  # in the figure and in the first table
GREYED = 10  # unpredictable pathways, in a separate table
FIRST_GENES = 50  # for readers without JavaScript
WORDS = (GOOD, WEAK, NONE, UNKNOWN)
RELIABLE = (GOOD, WEAK)
LEVEL = 90
HUNDREDTHS = 100
# Key in the page's data: column of `ordered_genes`.
COLUMNS = {
    **{"value": "value", "low": "low", "high": "high", "z": "z"},
    **{"r": "r", "rlow": "r_low", "rhigh": "r_high"},
}
# Keys that are missing for a feature file, or for bare fold models.
FACTS = (
    *("source", "mpp", "mpp_source", "width_px", "height_px", "vendor", "power", "key", "seed"),
    *("n_candidates", "n_tissue", "n_rejected", "folds", "draws", "draws_per_fold", "tile_mpp"),
    *("trained_folds", "trained_as"),
)
ABOUT = ("cohort", "run", "model", "encoder", "data", "tiles", "caveat", "version", "pcc")


def write(
    prediction: Prediction, picture: str | Path | None, about: dict[str, Any], out: str | Path
) -> Path:
    """Draw the figure and write the page, one file that needs no network; return its path.

    Parameters
    ----------
    picture : JPEG of the overview with mask and tiles, from `slides.tile_picture`; None for
        features from a file.
    about : the content of predictor.json.
    out : the page; the figure goes to the folder `figures` next to it.
    """
    out = Path(out)
    page = context(prediction, about)
    page["picture"] = _jpeg_uri(Path(picture)) if picture is not None else None
    pathways = figure_pathways(prediction.pathways)
    page["figure"] = None
    if pathways.height:
        path = style.save(pathway_figure(pathways), out.parent / "figures", "pathways")
        page["figure"] = html.picture(path)
    files.write_text(html.render("pages/slide.html.j2", page), out)
    return out


def context(prediction: Prediction, about: dict[str, Any]) -> dict[str, Any]:
    """Return the template's context without the pictures."""
    genes = ordered_genes(prediction.genes)
    pathways = ordered_pathways(prediction.pathways)
    reliable = pathways.filter(pl.col("reliability").is_in(RELIABLE))
    unreliable = pathways.filter(~pl.col("reliability").is_in(RELIABLE))
    apart = reliable.filter((pl.col("z_low") > 0) | (pl.col("z_high") < 0))
    facts = dict.fromkeys(FACTS) | prediction.facts
    in_sample = _in_sample_warning(facts)
    top_warnings = [prediction.shift["words"], in_sample and in_sample["words"]]
    rules = about.get("reliability") or {}
    return {
        "version": __version__,
        "name": prediction.name,
        "about": dict.fromkeys(ABOUT) | about,
        "facts": facts,
        "seen": in_sample,
        "shift": prediction.shift | {"rows": shift_rows(prediction.shift)},
        "ratio": ratio(prediction.shift),
        "warnings": [text for text in prediction.warnings if text not in top_warnings],
        "genes": gene_browser.as_json(gene_data(genes)),
        "first_genes": genes.head(FIRST_GENES).to_dicts(),
        "gene_counts": counts(genes),
        "scored": genes["r"].is_not_null().any(),
        "kind": interval_kind(prediction.genes),
        "pathways": reliable.head(TOP_PATHWAYS).to_dicts(),
        "greyed": unreliable.head(GREYED).to_dicts(),
        "pathway_counts": counts(pathways),
        "n_relied": reliable.height,
        "n_apart": apart.height,
        "has_draws": pathways["z_low"].is_not_null().any() if pathways.height else False,
        "gene_rule": rules.get("genes", GENE_RULE),
        "pathway_rule": rules.get("pathways", PATHWAY_RULE),
        "encoder": encoder_licence(about) if about.get("encoder") else None,
    }


def _in_sample_warning(facts: dict[str, Any]) -> dict[str, str] | None:
    """Return the page's first warning for a slide that fold models were trained on."""
    if not facts["trained_folds"]:
        return None
    by = facts["trained_as"]
    words = training_slides.in_sample_note(facts["trained_folds"], facts["folds"], by)
    subject = "a slide of this name" if by == "name" else "this slide"
    return {"words": words, "heading": f"Warning: {subject} was in the training data"}


def shift_rows(shift: Mapping[str, Any]) -> list[Row]:
    """Return a row per comparison of the slide: p, and the share of folds with p at most alpha."""
    rows = [
        ("tiles", "calibration", "bag_p", "bag_share", "n_cal", CAL),
        ("tiles", "training", "bag_p_train", "bag_train_share", "n_train", TRAIN),
        ("predicted profile", "calibration", "expression_p", "expression_share", "n_cal", CAL),
    ]
    return [
        {"what": quantity, "with": group, "p": shift[p], "share": shift[share], "n": shift[n]}
        | {"decides": shift["judged_by"] == by}
        for quantity, group, p, share, n, by in rows
        if shift[p] is not None
    ]


def ratio(shift: ShiftDecision) -> float | None:
    """Return the slide's distance in units of the median training patient's."""
    distance, median = shift["bag_distance"], shift["train_distance"]
    return None if distance is None or not median else distance / median


def _order(table: pl.DataFrame) -> pl.DataFrame:
    """Sort reliable rows first, then by distance from the training average, farthest first."""
    return table.sort(
        ~pl.col("reliability").is_in(RELIABLE),
        pl.col("z").abs(),
        pl.first(),
        descending=[False, True, False],
        nulls_last=True,
    )


def ordered_pathways(table: pl.DataFrame) -> pl.DataFrame:
    """Return pathways in display order, with their intervals in train sd."""
    spread = pl.when(pl.col("train_sd") > 0).then(pl.col("train_sd"))
    ends = (
        ((pl.col(end) - pl.col("train_mean")) / spread).alias(f"z_{name}")
        for name, end in (("low", "q05"), ("high", "q95"))
    )
    return _order(table.with_columns(*ends))


def figure_pathways(table: pl.DataFrame) -> pl.DataFrame:
    """Return the pathways of the figure: the reliable ones or, without any, the others."""
    scored = ordered_pathways(table).filter(pl.col("z").is_not_null())
    reliable = scored.filter(pl.col("reliability").is_in(RELIABLE))
    return (reliable if reliable.height else scored).head(TOP_PATHWAYS)


def interval_kind(genes: pl.DataFrame) -> str | None:
    """Return the kind of the genes' 90 % intervals: conformal, else draws, else None."""
    low = f"low{LEVEL}"
    if low in genes.columns and genes[low].is_not_null().any():
        return "conformal"
    return "draws" if genes["q05"].is_not_null().any() else None


def ordered_genes(genes: pl.DataFrame) -> pl.DataFrame:
    """Return genes in display order, with value, low, high, z, r and reliability.

    Conformal intervals are centred on the point, intervals of the draws on their mean.
    """
    conformal = interval_kind(genes) == "conformal"
    names = ("point", f"low{LEVEL}", f"high{LEVEL}") if conformal else ("mean", "q05", "q95")
    spread = pl.when(pl.col("train_sd") > 0).then(pl.col("train_sd"))
    value = pl.col(names[0])
    return _order(
        genes.select(
            "gene",
            value.alias("value"),
            pl.col(names[1]).alias("low"),
            pl.col(names[2]).alias("high"),
            ((value - pl.col("train_mean")) / spread).alias("z"),
            *("r", "r_low", "r_high", "train_mean", "train_sd", "reliability"),
        )
    )


def gene_data(genes: pl.DataFrame) -> dict[str, Any]:
    """Return the genes by column, in whole hundredths; reliability as an index into `words`."""
    data: dict[str, Any] = {"gene": genes["gene"].to_list(), "words": list(WORDS)}
    for key, column in COLUMNS.items():
        values = (genes[column].cast(pl.Float64).fill_nan(None) * HUNDREDTHS).round()
        data[key] = values.cast(pl.Int64).to_list()
    word_index = {word: index for index, word in enumerate(WORDS)}
    data["word"] = [word_index[word] for word in genes["reliability"]]
    return data


def counts(table: pl.DataFrame) -> dict[str, int]:
    """Count genes or pathways per word of reliability."""
    by_word = dict(table["reliability"].value_counts().iter_rows())
    return {word: int(by_word.get(word, 0)) for word in WORDS}


def _jpeg_uri(path: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


NAME_LENGTH = 52
# Marker, edge, face and label; filled, hollow and grey differ in greyscale print.
MARKERS = {
    "good": ("o", BLUE, BLUE, "good"),
    "weak": ("o", BLUE, "white", "weak"),
    "none": ("v", GREY, GREY, "none"),
    "unknown": ("s", GREY, "white", "unknown"),
}


@styled
def pathway_figure(table: pl.DataFrame) -> Figure:
    """Draw scores in sd of the training patients' scores, with 90 % intervals, a row per pathway.

    Parameters
    ----------
    table : name, z, z_low, z_high (null without draws), reliability; the first row is on top.
    """
    figure, (axis,) = axes_for(1, 9.2, 1.25 + 0.27 * table.height)
    heights = np.arange(table.height)[::-1]
    for reach, shade in ((2, "#EEF1F4"), (1, "#DFE4EA")):
        axis.axvspan(-reach, reach, color=shade, linewidth=0, zorder=0)
    axis.axvline(0, color="#9AA0A8", linewidth=1)
    for word, (marker, edge, face, label) in MARKERS.items():
        rows = np.flatnonzero(table["reliability"] == word)
        if not len(rows):
            continue
        part = table[rows]
        axis.hlines(heights[rows], part["z_low"], part["z_high"], color=edge, linewidth=1.8)
        axis.plot(
            part["z"],
            heights[rows],
            marker,
            color=edge,
            markerfacecolor=face,
            markeredgewidth=1.4,
            markersize=6,
            label=label,
        )
    axis.set_yticks(heights, [_shorten(name) for name in table["name"]], fontsize=8.5)
    axis.set_ylim(-0.8, table.height - 0.2)
    axis.grid(visible=False)
    # The bands give the scale, so the axis always includes them.
    end = max(2.2, *(abs(x) * 1.05 for x in axis.get_xlim()))
    axis.set_xlim(-end, end)
    axis.set_xlabel("predicted score, in sd of the training patients' measured scores")
    figure.legend(loc="outside lower right", ncols=4, fontsize=8.5, title="predictable in test")
    return figure


def _shorten(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1].rstrip() + "…"
