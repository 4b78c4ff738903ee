"""The page of one slide's prediction, for somebody who knows slides and not this program."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from slide2rna import __version__
from slide2rna.core import files
from slide2rna.package import training_slides
from slide2rna.package.model_card import encoder_licence
from slide2rna.package.reliability import GENE_RULE, GOOD, NONE, PATHWAY_RULE, UNKNOWN, WEAK
from slide2rna.pages import html
from slide2rna.predict.predict import Prediction
from slide2rna.report.figures import style
from slide2rna.report.figures.style import BLUE, GREY, axes_for, styled
from slide2rna.report.sections import gene_browser
from slide2rna.studies.shift.decision import CAL, TRAIN

SHOWN = 20  # pathways in the figure and in the first table
GREYED = 10  # of those that can't be predicted, in a table of their own
FIRST_GENES = 50  # for readers without JavaScript
WORDS = (GOOD, WEAK, NONE, UNKNOWN)
RELIED = (GOOD, WEAK)
LEVEL = 90
HUNDREDTHS = 100
# Key in the page's data, column of the genes that `genes_shown` gives.
COLUMNS = {
    **{"value": "value", "low": "low", "high": "high", "z": "z"},
    **{"r": "r", "rlow": "r_low", "rhigh": "r_high"},
}
# What a prediction from a features file, or of a bare folder of fold models, hasn't.
FACTS = (
    *("source", "mpp", "mpp_source", "width_px", "height_px", "vendor", "power", "key", "seed"),
    *("n_candidates", "n_tissue", "n_rejected", "folds", "draws", "draws_per_fold", "tile_mpp"),
    *("trained_folds", "trained_as"),
)
ABOUT = ("cohort", "run", "model", "encoder", "data", "tiles", "caveat", "version", "pcc")


def write(
    prediction: Prediction, picture: str | Path | None, about: dict[str, Any], out: str | Path
) -> Path:
    """Draw the figure and write the page, one file that needs no network; returns its path.

    Parameters
    ----------
    picture : JPEG of the overview with mask and tiles, as `tiles.draw` makes it; None for features
        that came from a file.
    about : the content of predictor.json.
    out : the page; the figure goes to the folder `figures` beside it.
    """
    out = Path(out)
    shown = context(prediction, about)
    shown["picture"] = _jpeg(Path(picture)) if picture is not None else None
    drawn = pathways_drawn(prediction.pathways)
    shown["figure"] = None
    if drawn.height:
        path = style.save(pathway_figure(drawn), out.parent / "figures", "pathways")
        shown["figure"] = html.picture(path)
    files.write_text(html.render("pages/slide.html.j2", shown), out)
    return out


def context(prediction: Prediction, about: dict[str, Any]) -> dict[str, Any]:
    """Everything that the template shows, but the pictures."""
    genes = genes_shown(prediction.genes)
    pathways = pathways_shown(prediction.pathways)
    relied = pathways.filter(pl.col("reliability").is_in(RELIED))
    rest = pathways.filter(~pl.col("reliability").is_in(RELIED))
    apart = relied.filter((pl.col("z_low") > 0) | (pl.col("z_high") < 0))
    facts = dict.fromkeys(FACTS) | prediction.facts
    seen = _seen(facts)
    said = [prediction.shift["words"], seen and seen["words"]]
    rules = about.get("reliability") or {}
    return {
        "version": __version__,
        "name": prediction.name,
        "about": dict.fromkeys(ABOUT) | about,
        "facts": facts,
        "seen": seen,
        "shift": prediction.shift | {"rows": shift_rows(prediction.shift)},
        "ratio": ratio(prediction.shift),
        "warnings": [text for text in prediction.warnings if text not in said],
        "genes": gene_browser.as_json(data_of(genes)),
        "first_genes": genes.head(FIRST_GENES).to_dicts(),
        "gene_counts": counts(genes),
        "scored": genes["r"].is_not_null().any(),
        "kind": interval_kind(prediction.genes),
        "pathways": relied.head(SHOWN).to_dicts(),
        "greyed": rest.head(GREYED).to_dicts(),
        "pathway_counts": counts(pathways),
        "n_relied": relied.height,
        "n_apart": apart.height,
        "has_draws": pathways["z_low"].is_not_null().any() if pathways.height else False,
        "gene_rule": rules.get("genes", GENE_RULE),
        "pathway_rule": rules.get("pathways", PATHWAY_RULE),
        "encoder": encoder_licence(about["encoder"], about.get("made_by"))
        if about.get("encoder")
        else None,
    }


def _seen(facts: dict[str, Any]) -> dict[str, Any] | None:
    """What stands on top instead of the judgement of a slide that fold models were trained on."""
    if not facts["trained_folds"]:
        return None
    by = facts["trained_as"]
    own = training_slides.in_sample_note(facts["trained_folds"], facts["folds"], by)
    which = "A slide of this name" if by == "name" else "This slide"
    return {"words": own, "heading": f"Warning: {which[0].lower()}{which[1:]} was in the training"}


def shift_rows(shift: dict[str, Any]) -> list[dict[str, Any]]:
    """What was compared with what: p, and in how many folds it was at most alpha."""
    rows = [
        ("tiles", "calibration", "bag_p", "bag_share", "n_cal", CAL),
        ("tiles", "training", "bag_p_train", "bag_train_share", "n_train", TRAIN),
        ("predicted profile", "calibration", "expression_p", "expression_share", "n_cal", CAL),
    ]
    return [
        {"what": what, "with": against, "p": shift[p], "share": shift[share], "n": shift[n]}
        | {"decides": shift["judged_by"] == by}
        for what, against, p, share, n, by in rows
        if shift[p] is not None
    ]


def ratio(shift: dict[str, Any]) -> float | None:
    """Distance of the slide in units of the median training patient's."""
    own, usual = shift["bag_distance"], shift["train_distance"]
    return None if own is None or not usual else own / usual


def _order(table: pl.DataFrame) -> pl.DataFrame:
    """What can be relied on first, and in it what lies farthest from the training average."""
    return table.sort(
        ~pl.col("reliability").is_in(RELIED),
        pl.col("z").abs(),
        pl.first(),
        descending=[False, True, False],
        nulls_last=True,
    )


def pathways_shown(table: pl.DataFrame) -> pl.DataFrame:
    """Pathways in the order in which they are shown, with their interval in train sd."""
    spread = pl.when(pl.col("train_sd") > 0).then(pl.col("train_sd"))
    ends = (
        ((pl.col(end) - pl.col("train_mean")) / spread).alias(f"z_{name}")
        for name, end in (("low", "q05"), ("high", "q95"))
    )
    return _order(table.with_columns(*ends))


def pathways_drawn(table: pl.DataFrame) -> pl.DataFrame:
    """Those of the figure: relied on; where there are none, the others, greyed."""
    known = pathways_shown(table).filter(pl.col("z").is_not_null())
    relied = known.filter(pl.col("reliability").is_in(RELIED))
    return (relied if relied.height else known).head(SHOWN)


def interval_kind(genes: pl.DataFrame) -> str | None:
    """Of the genes' 90 % intervals: conformal, of the draws where that is refused, or none."""
    low = f"low{LEVEL}"
    if low in genes.columns and genes[low].is_not_null().any():
        return "conformal"
    return "draws" if genes["q05"].is_not_null().any() else None


def genes_shown(genes: pl.DataFrame) -> pl.DataFrame:
    """Genes in the order in which they are shown: value, low, high, z, r and reliability.

    A conformal interval lies about the point, an interval of the draws about their mean.
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


def data_of(genes: pl.DataFrame) -> dict[str, Any]:
    """The genes by column, in whole hundredths; reliability as a place in `words`."""
    found: dict[str, Any] = {"gene": " ".join(genes["gene"]), "words": list(WORDS)}
    for key, column in COLUMNS.items():
        values = (genes[column].cast(pl.Float64).fill_nan(None) * HUNDREDTHS).round()
        found[key] = values.cast(pl.Int64).to_list()
    place = {word: index for index, word in enumerate(WORDS)}
    found["word"] = [place[word] for word in genes["reliability"]]
    return found


def counts(table: pl.DataFrame) -> dict[str, int]:
    """How many genes or pathways have each word of reliability."""
    found = dict(table["reliability"].value_counts().iter_rows())
    return {word: int(found.get(word, 0)) for word in WORDS}


def _jpeg(path: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


NAME_LENGTH = 52
# Filled, hollow and grey: they stay apart in a grey print.
LOOKS = {
    "good": ("o", BLUE, BLUE, "good"),
    "weak": ("o", BLUE, "white", "weak"),
    "none": ("v", GREY, GREY, "none"),
    "unknown": ("s", GREY, "white", "unknown"),
}


@styled
def pathway_figure(table: pl.DataFrame) -> Figure:
    """Scores in sd of the training patients' own, with 90 % intervals, a row per pathway.

    Parameters
    ----------
    table : name, z, z_low, z_high (null without draws), reliability; the first row is on top.
    """
    figure, (axis,) = axes_for(1, 9.2, 1.25 + 0.27 * table.height)
    places = np.arange(table.height)[::-1]
    for reach, shade in ((2, "#EEF1F4"), (1, "#DFE4EA")):
        axis.axvspan(-reach, reach, color=shade, linewidth=0, zorder=0)
    axis.axvline(0, color="#9AA0A8", linewidth=1)
    for word, (marker, edge, face, label) in LOOKS.items():
        rows = np.flatnonzero(table["reliability"] == word)
        if not len(rows):
            continue
        own = table[rows]
        axis.hlines(places[rows], own["z_low"], own["z_high"], color=edge, linewidth=1.8)
        axis.plot(
            own["z"],
            places[rows],
            marker,
            color=edge,
            markerfacecolor=face,
            markeredgewidth=1.4,
            markersize=6,
            label=label,
        )
    axis.set_yticks(places, [short(name) for name in table["name"]], fontsize=8.5)
    axis.set_ylim(-0.8, table.height - 0.2)
    axis.grid(visible=False)
    # The bands give the scale, so they are never cut.
    end = max(2.2, *(abs(x) * 1.05 for x in axis.get_xlim()))
    axis.set_xlim(-end, end)
    axis.set_xlabel("predicted score, in sd of the training patients' measured scores")
    figure.legend(loc="outside lower right", ncols=4, fontsize=8.5, title="predictable in test")
    return figure


def short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1].rstrip() + "…"
