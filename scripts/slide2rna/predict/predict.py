"""Slides, or their features, to expression with intervals, by all fold models of a run together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from slide2rna.package import training_slides
from slide2rna.package.predictor import Predictor
from slide2rna.predict.encode_slide import EncodedSlide, bag
from slide2rna.predict.pool_folds import PooledPrediction, pool_folds

MANY_REJECTED = 0.5
MPP_TOLERANCE = 0.1


@dataclass(frozen=True)
class Prediction:
    """What a run says of one slide; expression in log2(FPKM-UQ + 1).

    Attributes
    ----------
    genes : gene, mean, sd, q05, q50, q95 of the draws of all fold models together, point, the ends
        of conformal intervals (low50, high50, ...; null where refused), r, r_low, r_high,
        reliability, train_mean, train_sd.
    pathways : pathway, name, n_genes, mean, sd, q05, q50, q95 of the draws' scores, train_mean,
        train_sd, z, r, r_low, r_high, reliability.
    shift : whether the slide is like the training slides; see `judged.together`.
    facts : of the slide (`Encoded.facts`) and of the prediction: folds, draws, draws_per_fold,
        seed, trained_folds and trained_as (see `known_slides.told`).
    warnings : sentences for people; first of all, that the slide was in the training.
    """

    name: str
    genes: pl.DataFrame
    pathways: pl.DataFrame
    shift: dict[str, Any]
    facts: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def predict(
    predictor: Predictor, encoded: EncodedSlide, draws: int | None = None, seed: int | None = None
) -> Prediction:
    """Expression and pathway scores of one slide, with how far it lies from the training slides.

    Parameters
    ----------
    draws : per fold model; default as many as the calibration had, for which alone the conformal
        intervals were made.
    seed : of the draws; default that of the run, so that a slide of the cohort gets its own draws.

    Raises
    ------
    SlideError
        Its prediction isn't finite.
    StageError
        The folder's files don't belong together.
    """
    about = predictor.about
    each = about["sample"]["draws"] if draws is None else draws
    seed = about["seed"] if seed is None else seed
    means, sizes = bag(encoded.features.features, predictor, encoded.name)
    found = pool_folds(predictor, means, sizes, encoded.name, each, seed)
    facts = encoded.facts | {"folds": len(predictor.members), "seed": seed}
    facts |= {"draws_per_fold": found.each, "draws": found.each * len(predictor.members)}
    facts |= training_slides.training_facts(predictor.known, encoded.name, means, sizes)
    genes, pathways = gene_table(predictor, found), pathway_table(predictor, found)
    warned = _warnings(predictor, facts, found)
    return Prediction(encoded.name, genes, pathways, found.shift, facts, warned)


def gene_table(predictor: Predictor, found: PooledPrediction) -> pl.DataFrame:
    """The table `Prediction.genes`."""
    known = predictor.gene_table.select(
        "r",
        "r_low",
        "r_high",
        "reliability",
        pl.col("mean").alias("train_mean"),
        pl.col("sd").alias("train_sd"),
    )
    ends: dict[str, Any] = {}
    for level in predictor.about["levels"]:
        low, high = found.intervals.get(level, (None, None))
        ends |= {f"low{100 * level:g}": low, f"high{100 * level:g}": high}
    own = {"gene": predictor.genes} | found.genes | {"point": found.point} | ends
    return _frame(own).hstack(known)


def pathway_table(predictor: Predictor, found: PooledPrediction) -> pl.DataFrame:
    """The table `Prediction.pathways`; z is the distance from the train samples' mean score."""
    of = predictor.pathway_table
    own = _frame(found.pathways)
    table = of.select("pathway", "name", "n_genes").hstack(own)
    known = of.select("train_mean", "train_sd", "r", "r_low", "r_high", "reliability")
    spread = pl.when(pl.col("train_sd") > 0).then(pl.col("train_sd"))
    z = ((pl.col("mean") - pl.col("train_mean")) / spread).alias("z")
    front = ["train_mean", "train_sd"]
    return table.hstack(known).select(
        *table.columns, *front, z, "r", "r_low", "r_high", "reliability"
    )


def _frame(columns: dict[str, Any]) -> pl.DataFrame:
    """A table of floats, null where nothing is known, beside names."""
    height = max(len(values) for values in columns.values() if values is not None)
    return pl.DataFrame(
        {
            name: pl.Series([None] * height, dtype=pl.Float64)
            if values is None
            else (values if isinstance(values, list) else np.asarray(values, np.float64))
            for name, values in columns.items()
        }
    ).with_columns(pl.selectors.float().fill_nan(None))


def of_slide(facts: dict[str, Any], shift: dict[str, Any], folds: int) -> list[str]:
    """Warnings about a slide itself; first of all, that the model was trained on it.

    Parameters
    ----------
    facts : with those of `known_slides.told`.
    shift : from `judged.together`.
    folds : fold models.
    """
    said = []
    if facts["trained_folds"] is not None:
        said.append(
            training_slides.in_sample_note(facts["trained_folds"], folds, facts["trained_as"])
        )
    if shift["shifted"] is not False:
        said.append(shift["words"])
    said += [f"{facts[note]}." for note in ("weights_note", "encoder_note") if facts.get(note)]
    if facts.get("mpp_note"):
        said.append(f"{facts['mpp']:g} um/px is used, but {facts['mpp_note']}.")
    return said


def _warnings(predictor: Predictor, facts: dict[str, Any], found: PooledPrediction) -> list[str]:
    about, said = predictor.about, of_slide(facts, found.shift, len(predictor.members))
    # An older package states the tiles that its configuration had, which own features aren't of.
    stated = None if about["encoder"] == "files" else (about["tiles"] or {}).get("mpp")
    own, ours = facts.get("tile_mpp"), about.get("tile_mpp", stated)
    if own and ours and abs(own / ours - 1) > MPP_TOLERANCE:
        said.append(f"Its tiles were seen at {own:g} um/px, those of the training at {ours:g}.")
    rejected, count = facts["n_rejected"], facts["n_tiles"]
    if rejected > MANY_REJECTED * (rejected + count):
        said.append(f"{rejected} of {rejected + count} tiles were blank or blurred in full view.")
    if count < predictor.clusters:
        said.append(f"Only {count} tiles, fewer than the {predictor.clusters} clusters of a bag.")
    if about.get("caveat"):
        said.append(f"Of the model: {about['caveat']}.")
    calibrated = about["sample"]["draws"]
    if found.each and found.intervals and found.each != calibrated:
        said.append(
            f"{found.each} draws per fold model; the intervals were calibrated for {calibrated}."
        )
    if found.each and about["sample"]["guidance"] != 1:
        said.append("Draws are guided: no coverage is claimed for their quantiles.")
    refused = [level for level in about["levels"] if level not in found.intervals]
    if refused and found.each:
        names = ", ".join(f"{100 * level:g} %" for level in refused)
        said.append(f"No conformal interval at {names}: too few calibration patients.")
    return said
