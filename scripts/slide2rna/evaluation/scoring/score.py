"""Score a run beside all other models on the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from slide2rna.core import files, seeds
from slide2rna.core.config import Settings
from slide2rna.core.errors import StageError
from slide2rna.core.log import log, progress
from slide2rna.core.parallel import ordered_map
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

EXAMPLES, EXAMPLE_PATHWAYS = 6, 3


def score_run(inputs: EvaluationInputs, settings: Settings, seed: int, threads: int) -> Evaluated:
    """Read all folds, fit the closed forms, rank the genes by val, score the draws, bootstrap.

    Raises
    ------
    StageError
        The inputs don't belong together.
    """
    cohort = load_cohort(inputs)
    sets = load_members(inputs.pathways, cohort.genes)
    run = predictions.open_folds(cohort, inputs.draws, inputs.others, _model_name(inputs))
    sizes = shown_sizes(
        settings["top"], len(cohort.genes), [fold.test.patients for fold in run.folds]
    )
    given = predictions.predict_folds(run, sizes, settings["bootstrap"], seed, threads)
    return score_predictions(cohort, run, given, sizes, sets, settings, seed, threads)


def score_predictions(
    cohort: patients.Cohort,
    run: predictions.RunFolds,
    given: predictions.ModelPredictions,
    sizes: list[int],
    sets: tuple[pl.DataFrame, sparse.csr_matrix],
    settings: Settings,
    seed: int,
    threads: int,
) -> Evaluated:
    """Score predictions and draws that are at hand, and bootstrap; `sets` as `load_members`."""
    names, members = sets
    examples = np.argsort(-np.mean(given.val_r, axis=0), kind="stable")[:EXAMPLES]
    # A pathway is shown if val ranks its genes high; test has no say in it.
    of_pathways = members @ np.mean(given.val_r, axis=0)
    pathways = np.argsort(-of_pathways, kind="stable")[:EXAMPLE_PATHWAYS]
    of_draws, spread = [], []
    if run.draws_of(run.model):
        for index, fold in enumerate(progress(run.folds, "draws")):
            fold_inputs, (mean, sd) = given.folds[index], given.train[index]
            method = activity.scoring_method(
                settings["pathway_score"], mean, sd, fold_inputs.eligible, members, np.float32
            )
            scored = draw_scores.score_draws(
                fold,
                fold_inputs.sets[run.model],
                settings["levels"],
                method,
                (examples, pathways),
                seed,
                threads,
            )
            of_draws.append(scored)
            spread.append(_spread(fold, fold_inputs, scored, run.model))
    moments: dict[str, list[DrawMoments]] = {run.model: list(of_draws)} if of_draws else {}
    for name in run.networks[1:]:
        if run.draws_of(name):
            of_model = progress(run.of[name], f"draws of {name}")
            moments[name] = [draw_scores.draw_moments(fold, threads) for fold in of_model]
    predictions.add_draws(given, run, moments)
    floors = _floors(run.folds, given.folds, settings["permutations"], seed, threads)
    log.info("bootstrap")
    comparison = compare(given.folds, members, threads)
    pairs = predictions.tested_pairs(run, list(given.folds[0].test))
    return Evaluated(
        cohort=cohort,
        names=names,
        members=members,
        model=run.model,
        of=run.of,
        inputs=given.folds,
        draws=of_draws,
        moments=moments,
        comparison=comparison,
        better=correlation_tests.better(
            [fold.truth for fold in given.folds],
            [fold.test for fold in given.folds],
            pairs,
            correlation_tests.repeated(given.folds),
        ),
        pooled=given.pooled,
        set_names=["all", *(f"T{k}" for k in sizes)],
        sizes=sizes,
        top=list(settings["top"]),
        notes={name: _merge(text) for name, text in given.notes.items()},
        absent=given.absent,
        floors=floors,
        levels=sorted(settings["levels"]),
        examples=examples,
        pathways=pathways,
        pathway_score=settings["pathway_score"],
        train=given.train,
        spread=spread,
        seed=seed,
    )


def _spread(
    fold: Fold, given: fold_scores.FoldPredictions, scored: DrawScores, model: str
) -> tuple[float, float]:
    """Mean spread of the points, and their distance from the mean of draws in sds of these."""
    off = (given.test[model] - scored.mean)[:, given.eligible]
    inside = np.sqrt(scored.variance.mean(axis=0))[given.eligible]
    off_share = float(np.sqrt((off**2).mean(axis=0)).mean() / max(inside.mean(), 1e-12))
    noise = fold.read("point_spread", fold.test)[:, given.eligible].mean()
    return float(noise), off_share


def _floors(
    of: Sequence[Fold],
    given: Sequence[fold_scores.FoldPredictions],
    permutations: int,
    seed: int,
    threads: int,
) -> dict[str, Array]:
    """Noise floor (permutations, K) of every model; the constant has none.

    A mean over the folds whose correlations count, or it would be the floor of other folds.
    """
    sizes = [len(fold_inputs.truth) for fold_inputs in given]

    def work(name: str) -> tuple[str, Array]:
        rows = []
        for fold, fold_inputs in zip(of, given, strict=True):
            rng = seeds.rng_for(seed, "permutations", fold.number)
            n = len(fold.test.samples)
            orders = np.array([rng.permutation(n) for _ in range(permutations)])
            rows.append(noise_floor(fold_inputs, name, orders))
        return name, over_folds(np.array(rows), sizes, True)

    names = [name for name in given[0].test if name != "constant"]
    return dict(ordered_map(work, names, threads))


def load_members(path: str | Path, genes: Sequence[str]) -> tuple[pl.DataFrame, sparse.csr_matrix]:
    """Pathways (pathway, name, n_genes) and their membership (P, G), rows summing to 1."""
    position = {gene: index for index, gene in enumerate(genes)}
    table = pl.read_parquet(path, columns=["pathway", "name", "gene"])
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
    """The cohort with the genes of the models.

    Raises
    ------
    StageError
        Models and draws have different genes, or the cohort's files don't belong together.
    """
    genes = read_genes(inputs.draws[0])
    for folder in inputs.models:
        if list(files.read_json(folder / "model.json")["genes"]) != genes:
            raise StageError(
                folder, "its genes differ from those of the draws", "sample the draws anew"
            )
    log.info("%d genes, %d folds", len(genes), len(inputs.draws))
    return patients.load_cohort(
        genes, inputs.bags, inputs.expression, inputs.slides, inputs.splits, inputs.cohort
    )


def _model_name(inputs: EvaluationInputs) -> str:
    """Label of the evaluated model."""
    names = {model_of(path) for path in inputs.draws}
    if len(names) > 1:
        raise StageError(
            inputs.draws[0], f"folds of different models: {sorted(map(str, names))}", "train anew"
        )
    return str(names.pop())


def _merge(notes: list[str]) -> str:
    """One note for all folds: what differs is listed in the order of the folds."""
    if len(set(notes)) == 1:
        return notes[0]
    words = [note.split() for note in notes]
    if len({len(line) for line in words}) > 1:
        return "; ".join(notes)
    columns = [list(dict.fromkeys(column)) for column in zip(*words, strict=True)]
    return " ".join(", ".join(column) for column in columns)
