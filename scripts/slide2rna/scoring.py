"""Score a run: read its folds, fit the nulls, rank the genes by val, and bootstrap the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from slide2rna import bootstrap, compare, draws, io, metrics, nulls, patients
from slide2rna.cli import log, progress
from slide2rna.config import Settings
from slide2rna.errors import StageError

Array = NDArray[np.floating]

EXAMPLES = 6


@dataclass(frozen=True)
class Inputs:
    """Paths of an evaluation's inputs."""

    draws: list[Path]
    models: list[Path]
    bags: Path
    expression: Path
    slides: Path
    splits: Path
    cohort: Path
    pathways: Path


@dataclass
class Evaluated:
    """All that the tables are made from; lists run over folds."""

    cohort: patients.Cohort
    model: str
    folds: list[patients.Fold]
    inputs: list[compare.FoldPredictions]
    draws: list[draws.DrawScores]
    comparison: compare.Comparison
    set_names: list[str]
    sizes: list[int]
    notes: dict[str, str]
    absent: dict[str, str]
    floors: dict[str, Array]
    examples: NDArray[np.int64]
    train: list[tuple[Array, Array]]
    spread: list[tuple[float, float]]
    seed: int


def score(
    cohort: patients.Cohort,
    inputs: Inputs,
    members: sparse.csr_matrix,
    settings: Settings,
    seed: int,
    threads: int,
) -> Evaluated:
    """Read all folds, fit the nulls, rank the genes by val, score the draws, and bootstrap."""
    folds = [patients.load_fold(cohort, path) for path in inputs.draws]
    folds.sort(key=lambda fold: fold.number)
    model = _model_name(inputs.models)
    sizes = compare.shown_sizes(
        settings["top"], len(cohort.genes), [len(fold.test.samples) for fold in folds]
    )
    absent: dict[str, str] = {}
    notes: dict[str, list[str]] = {}
    predictions, val_r, spread, train = [], [], [], []
    for fold in progress(folds, "nulls"):
        baselines, missing = nulls.fit_nulls(cohort, fold, seed)
        absent |= missing
        val = {model: fold.read("point", fold.val)}
        val |= {name: null.val for name, null in baselines.items()}
        test = {model: fold.read("point", fold.test)}
        test |= {name: null.test for name, null in baselines.items()}
        mean = fold.train.truth.mean(axis=0, dtype=np.float64)
        sd = fold.train.truth.std(axis=0, dtype=np.float64)
        eligible = ~metrics.is_flat(fold.train.truth)
        sets = {
            name: compare.gene_sets(values, fold.val.truth, eligible, sizes)
            for name, values in val.items()
            if name != "constant"
        }
        # The constant ranks nothing: it is scored on the model's genes.
        sets["constant"] = sets[model]
        r, _ = metrics.pcc(val[model], fold.val.truth)
        val_r.append(np.where(eligible, np.nan_to_num(r), -1.0))
        rng = io.rng_for(seed, "bootstrap", fold.number)
        counts = bootstrap.resample_counts(rng, len(fold.test.samples), settings["bootstrap"])
        predictions.append(
            compare.FoldPredictions(fold.test.truth, test, {}, sets, eligible, mean, counts)
        )
        train.append((mean, sd))
        for name, null in baselines.items():
            notes.setdefault(name, []).append(null.note)
    # A null that one fold can't have is left out of all, or its mean would be over fewer folds.
    for fold_inputs in predictions:
        for name in absent:
            fold_inputs.test.pop(name, None)

    examples = np.argsort(-np.mean(val_r, axis=0), kind="stable")[:EXAMPLES]
    of_draws = []
    for fold, given, (mean, sd) in progress(
        list(zip(folds, predictions, train, strict=True)), "draws"
    ):
        scale = np.where(given.eligible, 1.0 / np.where(given.eligible, sd, 1.0), 0.0)
        standardiser = draws.Standardiser(mean.astype("f4"), scale.astype("f4"), members)
        scored = draws.score_draws(
            fold, given.sets[model], settings["levels"], standardiser, examples, seed, threads
        )
        of_draws.append(scored)
        given.variants |= {"pcc_draw_mean": scored.mean, "pcc_one_draw": scored.one}
        off = (given.test[model] - scored.mean)[:, given.eligible]
        inside = np.sqrt(scored.variance.mean(axis=0))[given.eligible]
        off_share = float(np.sqrt((off**2).mean(axis=0)).mean() / max(inside.mean(), 1e-12))
        noise = fold.read("point_spread", fold.test)[:, given.eligible].mean()
        spread.append((float(noise), off_share))
    floors = {}
    for name in predictions[0].test:
        per_fold = []
        for fold, given in zip(folds, predictions, strict=True):
            rng = io.rng_for(seed, "permutations", fold.number)
            n = len(fold.test.samples)
            orders = np.array([rng.permutation(n) for _ in range(settings["permutations"])])
            per_fold.append(compare.noise_floor(given, name, orders))
        floors[name] = np.mean(per_fold, axis=0)
    return Evaluated(
        cohort=cohort,
        model=model,
        folds=folds,
        inputs=predictions,
        draws=of_draws,
        comparison=compare.compare(predictions, members),
        set_names=["all", *(f"T{k}" for k in sizes)],
        sizes=sizes,
        notes={name: _merge(text) for name, text in notes.items()},
        absent=absent,
        floors=floors,
        examples=examples,
        train=train,
        spread=spread,
        seed=seed,
    )


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


def model_genes(inputs: Inputs) -> list[str]:
    genes = patients.read_genes(inputs.draws[0])
    for folder in inputs.models:
        if list(io.read_json(folder / "model.json")["genes"]) != genes:
            raise StageError(
                folder, "its genes differ from those of the draws", "sample the draws anew"
            )
    log.info("%d genes, %d folds", len(genes), len(inputs.draws))
    return genes


def _model_name(folders: Sequence[Path]) -> str:
    names = {io.read_json(folder / "model.json")["settings"]["model"]["name"] for folder in folders}
    if len(names) > 1:
        raise StageError(folders[0], f"folds of different models: {sorted(names)}", "train anew")
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
