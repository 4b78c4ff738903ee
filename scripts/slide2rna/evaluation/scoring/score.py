"""Scoring of a run and of all other models on the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from slide2rna.core import files, seeds
from slide2rna.core.errors import StageError
from slide2rna.core.log import log, progress
from slide2rna.core.parallel import ordered_map
from slide2rna.core.settings import EvaluateSettings
from slide2rna.core.types import Array
from slide2rna.data import patients
from slide2rna.evaluation.scoring import (
    correlation_tests,
    draw_scores,
    fold_scores,
    predictions,
)
from slide2rna.evaluation.scoring.comparison import (
    compare,
    noise_floor,
    over_folds,
    shown_sizes,
)
from slide2rna.evaluation.scoring.draw_scores import DrawMoments, DrawScores
from slide2rna.evaluation.scoring.evaluated import Evaluated, EvaluationInputs
from slide2rna.evaluation.scoring.folds import Fold, model_of, read_genes
from slide2rna.pathways import activity
from slide2rna.storage import parquet

EXAMPLES, EXAMPLE_PATHWAYS = 6, 3


def score_run(
    inputs: EvaluationInputs, settings: EvaluateSettings, seed: int, threads: int
) -> Evaluated:
    """Read all folds, fit the closed forms, rank the genes by val, score the draws, bootstrap.

    Raises
    ------
    StageError
        The inputs don't belong together.
    """
    cohort = load_cohort(inputs)
    pathway_sets = load_members(inputs.pathways, cohort.genes)
    run = predictions.open_folds(cohort, inputs.draws, inputs.others, _model_label(inputs))
    sizes = shown_sizes(
        settings["top"], len(cohort.genes), [fold.test.n_patients for fold in run.folds]
    )
    model_predictions = predictions.predict_folds(run, sizes, settings["bootstrap"], seed, threads)
    return score_predictions(
        cohort, run, model_predictions, sizes, pathway_sets, settings, seed, threads
    )


def score_predictions(
    cohort: patients.Cohort,
    run: predictions.RunFolds,
    model_predictions: predictions.ModelPredictions,
    sizes: list[int],
    pathway_sets: tuple[pl.DataFrame, sparse.csr_matrix],
    settings: EvaluateSettings,
    seed: int,
    threads: int,
) -> Evaluated:
    """Score loaded predictions and draws, and bootstrap; `pathway_sets` as from `load_members`."""
    names, members = pathway_sets
    examples = np.argsort(-np.mean(model_predictions.val_r, axis=0), kind="stable")[:EXAMPLES]
    # A pathway is shown if val ranks its genes high; test plays no part.
    pathway_r = members @ np.mean(model_predictions.val_r, axis=0)
    pathways = np.argsort(-pathway_r, kind="stable")[:EXAMPLE_PATHWAYS]
    draws, spread = [], []
    if run.has_draws(run.model):
        for index, fold in enumerate(progress(run.folds, "draws")):
            fold_predictions, (mean, sd) = (
                model_predictions.fold_predictions[index],
                model_predictions.train_moments[index],
            )
            method = activity.scoring_method(
                settings["pathway_score"], mean, sd, fold_predictions.eligible, members, np.float32
            )
            scored = draw_scores.score_draws(
                fold,
                fold_predictions.sets[run.model],
                settings["levels"],
                method,
                (examples, pathways),
                seed,
                threads,
            )
            draws.append(scored)
            spread.append(_point_spread(fold, fold_predictions, scored, run.model))
    moments: dict[str, list[DrawMoments]] = {run.model: list(draws)} if draws else {}
    for name in run.networks[1:]:
        if run.has_draws(name):
            model_folds = progress(run.folds_by_model[name], f"draws of {name}")
            moments[name] = [draw_scores.draw_moments(fold, threads) for fold in model_folds]
    predictions.add_draws(model_predictions, run, moments)
    floors = _noise_floors(
        run.folds, model_predictions.fold_predictions, settings["permutations"], seed, threads
    )
    log.info("bootstrap")
    comparison = compare(model_predictions.fold_predictions, members, threads)
    pairs = predictions.tested_pairs(run, list(model_predictions.fold_predictions[0].test))
    return Evaluated(
        cohort=cohort,
        pathway_names=names,
        pathway_members=members,
        model=run.model,
        folds_by_model=run.folds_by_model,
        predictions=model_predictions.fold_predictions,
        draw_scores=draws,
        draw_moments=moments,
        comparison=comparison,
        p_better=correlation_tests.better(
            [fold.truth for fold in model_predictions.fold_predictions],
            [fold.test for fold in model_predictions.fold_predictions],
            pairs,
            correlation_tests.has_repeated_samples(model_predictions.fold_predictions),
        ),
        pooled_moments=model_predictions.pooled,
        set_names=["all", *(f"T{k}" for k in sizes)],
        set_sizes=sizes,
        configured_sizes=list(settings["top"]),
        notes={name: _merge_notes(text) for name, text in model_predictions.notes.items()},
        unavailable=model_predictions.unavailable,
        noise_floors=floors,
        levels=sorted(settings["levels"]),
        example_genes=examples,
        example_pathways=pathways,
        pathway_score=settings["pathway_score"],
        train_moments=model_predictions.train_moments,
        point_spreads=spread,
        seed=seed,
    )


def _point_spread(
    fold: Fold, fold_predictions: fold_scores.FoldPredictions, scored: DrawScores, model: str
) -> tuple[float, float]:
    """Return the mean spread of the points, and their distance from the draws' mean in sds."""
    difference = (fold_predictions.test[model] - scored.mean)[:, fold_predictions.eligible]
    inside = np.sqrt(scored.variance.mean(axis=0))[fold_predictions.eligible]
    distance = float(np.sqrt((difference**2).mean(axis=0)).mean() / max(inside.mean(), 1e-12))
    noise = fold.read("point_spread", fold.test)[:, fold_predictions.eligible].mean()
    return float(noise), distance


def _noise_floors(
    folds: Sequence[Fold],
    all_predictions: Sequence[fold_scores.FoldPredictions],
    permutations: int,
    seed: int,
    threads: int,
) -> dict[str, Array]:
    """Return the noise floor (permutations, K) of every model; the constant has none.

    It averages the same folds as the correlation does.
    """
    sizes = [len(fold_predictions.truth) for fold_predictions in all_predictions]

    def permute(name: str) -> tuple[str, Array]:
        rows = []
        for fold, fold_predictions in zip(folds, all_predictions, strict=True):
            rng = seeds.rng_for(seed, "permutations", fold.number)
            n = len(fold.test.samples)
            orders = np.array([rng.permutation(n) for _ in range(permutations)])
            rows.append(noise_floor(fold_predictions, name, orders))
        return name, over_folds(np.array(rows), sizes, True)

    names = [name for name in all_predictions[0].test if name != "constant"]
    return dict(ordered_map(permute, names, threads))


def load_members(path: str | Path, genes: Sequence[str]) -> tuple[pl.DataFrame, sparse.csr_matrix]:
    """Read pathways (pathway, name, n_genes) and their membership (P, G), rows summing to 1."""
    position = {gene: index for index, gene in enumerate(genes)}
    table = parquet.read(path, columns=["pathway", "name", "gene"])
    table = table.filter(pl.col("gene").is_in(list(position))).unique().sort("pathway", "gene")
    names = table.group_by("pathway", maintain_order=True).agg(
        pl.col("name").first(), pl.len().cast(pl.Int64).alias("n_genes")
    )
    sizes = names["n_genes"].to_numpy()
    rows = np.repeat(np.arange(names.height), sizes)
    columns = np.array([position[gene] for gene in table["gene"]], dtype=np.int64)
    weights = (1.0 / sizes[rows]).astype(np.float32)
    return names, sparse.csr_matrix((weights, (rows, columns)), (names.height, len(genes)))


def load_cohort(inputs: EvaluationInputs) -> patients.Cohort:
    """Load the cohort with the genes of the models.

    Raises
    ------
    StageError
        Models and draws have different genes, or the cohort's files don't belong together.
    """
    genes = read_genes(inputs.draws[0])
    for folder in inputs.models:
        if list(files.read_json(folder / "model.json")["genes"]) != genes:
            raise StageError(folder, "its genes differ from those of the draws", "rerun sampling")
    log.info("%d genes, %d folds", len(genes), len(inputs.draws))
    return patients.load_cohort(
        genes, inputs.bags, inputs.expression, inputs.slides, inputs.splits, inputs.cohort
    )


def _model_label(inputs: EvaluationInputs) -> str:
    """Read the label of the evaluated model."""
    names = {model_of(path) for path in inputs.draws}
    if len(names) > 1:
        raise StageError(
            inputs.draws[0], f"folds of different models: {sorted(map(str, names))}", "retrain"
        )
    return str(names.pop())


def _merge_notes(notes: list[str]) -> str:
    """Merge the notes of all folds into one: differing words are listed in fold order."""
    if len(set(notes)) == 1:
        return notes[0]
    words = [note.split() for note in notes]
    if len({len(line) for line in words}) > 1:
        return "; ".join(notes)
    columns = [list(dict.fromkeys(column)) for column in zip(*words, strict=True)]
    return " ".join(", ".join(column) for column in columns)
