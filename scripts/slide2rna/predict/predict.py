"""Prediction of one slide: expression and pathway scores with intervals, by a run's ensemble."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from slide2rna.package import training_slides
from slide2rna.package.predictor import Predictor
from slide2rna.package.training_slides import TrainingFacts
from slide2rna.predict.encode_slide import EncodedSlide, EncodingFacts, bag
from slide2rna.predict.pool_folds import PooledPrediction, pool_folds
from slide2rna.studies.shift.decision import ShiftDecision

MANY_REJECTED = 0.5
MPP_TOLERANCE = 0.1


class SlideFacts(EncodingFacts, TrainingFacts):
    """Facts of an encoded slide, and of its match among the training slides."""


class PredictionFacts(SlideFacts):
    """Facts of a slide and of its prediction."""

    folds: int
    seed: int
    draws_per_fold: int
    draws: int


@dataclass(frozen=True)
class Prediction:
    """A run's prediction of one slide; expression in log2(FPKM-UQ + 1).

    Attributes
    ----------
    genes : gene, mean, sd, q05, q50, q95 of the draws of all fold models together, point, the ends
        of conformal intervals (low50, high50, ...; null where refused), r, r_low, r_high,
        reliability, train_mean, train_sd.
    pathways : pathway, name, n_genes, mean, sd, q05, q50, q95 of the draws' scores, train_mean,
        train_sd, z, r, r_low, r_high, reliability.
    shift : whether the slide is out-of-distribution; see `decision.decide`.
    facts : of the slide and of the prediction.
    warnings : sentences; the first one says if the slide was in the training.
    """

    name: str
    genes: pl.DataFrame
    pathways: pl.DataFrame
    shift: ShiftDecision
    facts: PredictionFacts
    warnings: list[str] = field(default_factory=list)


def predict(
    predictor: Predictor, encoded: EncodedSlide, draws: int | None = None, seed: int | None = None
) -> Prediction:
    """Predict expression and pathway scores of one slide, and its distance from training.

    Parameters
    ----------
    draws : per fold model; by default as many as in calibration, the only number for which the
        conformal intervals hold.
    seed : of the draws; by default that of the run, so that a slide of the cohort gets the same
        draws again.

    Raises
    ------
    SlideError
        Its prediction isn't finite.
    StageError
        The folder's files don't belong together.
    """
    about = predictor.about
    draws_per_fold = about["sample"]["draws"] if draws is None else draws
    seed = about["seed"] if seed is None else seed
    means, sizes = bag(encoded.features.features, predictor, encoded.name)
    pooled = pool_folds(predictor, means, sizes, encoded.name, draws_per_fold, seed)
    folds = len(predictor.fold_models)
    facts: PredictionFacts = {
        **encoded.facts,
        "folds": folds,
        "seed": seed,
        "draws_per_fold": pooled.draws_per_fold,
        "draws": pooled.draws_per_fold * folds,
        **training_slides.training_facts(predictor.cohort_slides, encoded.name, means, sizes),
    }
    genes, pathways = gene_table(predictor, pooled), pathway_table(predictor, pooled)
    warnings = _prediction_warnings(predictor, facts, pooled)
    return Prediction(encoded.name, genes, pathways, pooled.shift, facts, warnings)


def gene_table(predictor: Predictor, pooled: PooledPrediction) -> pl.DataFrame:
    """Return the table `Prediction.genes`."""
    model_columns = predictor.gene_table.select(
        "r",
        "r_low",
        "r_high",
        "reliability",
        pl.col("mean").alias("train_mean"),
        pl.col("sd").alias("train_sd"),
    )
    ends: dict[str, Any] = {}
    for level in predictor.about["levels"]:
        low, high = pooled.intervals.get(level, (None, None))
        ends |= {f"low{100 * level:g}": low, f"high{100 * level:g}": high}
    columns = {"gene": predictor.genes} | pooled.genes | {"point": pooled.point} | ends
    return _frame(columns).hstack(model_columns)


def pathway_table(predictor: Predictor, pooled: PooledPrediction) -> pl.DataFrame:
    """Return the table `Prediction.pathways`; z is the distance from the train mean in train sd."""
    model_table = predictor.pathway_table
    table = model_table.select("pathway", "name", "n_genes").hstack(_frame(pooled.pathways))
    train_columns = ("train_mean", "train_sd")
    test_columns = ("r", "r_low", "r_high", "reliability")
    spread = pl.when(pl.col("train_sd") > 0).then(pl.col("train_sd"))
    z = ((pl.col("mean") - pl.col("train_mean")) / spread).alias("z")
    return table.hstack(model_table.select(*train_columns, *test_columns)).select(
        *table.columns, *train_columns, z, *test_columns
    )


def _frame(columns: dict[str, Any]) -> pl.DataFrame:
    """Return a table of names (lists) and floats, null where a value is missing."""
    height = max(len(values) for values in columns.values() if values is not None)
    return pl.DataFrame(
        {
            name: pl.Series([None] * height, dtype=pl.Float64)
            if values is None
            else (values if isinstance(values, list) else np.asarray(values, np.float64))
            for name, values in columns.items()
        }
    ).with_columns(pl.selectors.float().fill_nan(None))


def slide_warnings(facts: SlideFacts, shift: ShiftDecision, folds: int) -> list[str]:
    """Return warnings about a slide itself; the first one says if the model was trained on it.

    Parameters
    ----------
    shift : from `decision.decide`.
    folds : fold models.
    """
    warnings = []
    if facts["trained_folds"] is not None:
        warnings.append(
            training_slides.in_sample_note(facts["trained_folds"], folds, facts["trained_as"])
        )
    if shift["shifted"] is not False:
        warnings.append(shift["words"])
    notes = (facts.get("weights_note"), facts.get("encoder_note"))
    warnings += [f"{note}." for note in notes if note]
    if facts.get("mpp_note"):
        warnings.append(f"{facts['mpp']:g} um/px is used, but {facts['mpp_note']}.")
    return warnings


def _prediction_warnings(
    predictor: Predictor, facts: PredictionFacts, pooled: PooledPrediction
) -> list[str]:
    about, draws = predictor.about, pooled.draws_per_fold
    warnings = slide_warnings(facts, pooled.shift, len(predictor.fold_models))
    # Older packages have no tile_mpp; their tiles don't describe features from files.
    config_mpp = None if about["encoder"] == "files" else (about["tiles"] or {}).get("mpp")
    mpp, train_mpp = facts.get("tile_mpp"), about.get("tile_mpp", config_mpp)
    if mpp and train_mpp and abs(mpp / train_mpp - 1) > MPP_TOLERANCE:
        warnings.append(f"Tiles have {mpp:g} um/px, but {train_mpp:g} um/px in training.")
    rejected, count = facts["n_rejected"], facts["n_tiles"]
    if rejected > MANY_REJECTED * (rejected + count):
        warnings.append(
            f"{rejected} of {rejected + count} tiles are blank or blurred at full resolution."
        )
    if count < predictor.n_clusters:
        warnings.append(
            f"Only {count} tiles, fewer than the {predictor.n_clusters} clusters of a bag."
        )
    if about.get("caveat"):
        warnings.append(f"Caveat of the model: {about['caveat']}.")
    calibrated = about["sample"]["draws"]
    if draws and pooled.intervals and draws != calibrated:
        warnings.append(
            f"{draws} draws per fold model, but the intervals were calibrated with {calibrated}."
        )
    if draws and about["sample"]["guidance"] != 1:
        warnings.append("The draws are guided: no coverage is claimed for their quantiles.")
    refused = [level for level in about["levels"] if level not in pooled.intervals]
    if refused and draws:
        names = ", ".join(f"{100 * level:g} %" for level in refused)
        warnings.append(f"No conformal interval at {names}: too few calibration patients.")
    return warnings
