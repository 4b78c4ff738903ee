"""The law cohort's results, and the law itself for the same test patients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from slide2rna.data import patients
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring import folds, score
from slide2rna.pathways.activity import ZScore
from slide2rna.simulate.ground_truth import CLASSES, Law, load_law

RUN = "files-flow-go-bp"
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Known:
    """A fold of results; `pi` (n, K) and `site` (n,) are what the law needs of its test patients.

    Genes are in the law's order: `order` takes an array of the cohort's genes to it.
    """

    fold: folds.Fold
    law: Law
    pi: Array
    site: NDArray[np.str_]
    order: NDArray[np.int64]
    standardiser: ZScore

    @property
    def measured(self) -> Array:
        return self.fold.test.truth[:, self.order]

    @property
    def depends(self) -> NDArray[np.bool_]:
        """Genes that depend on morphology."""
        return np.array(self.law.modules) != "none"

    def draws(self) -> Array:
        """The model's draws (n, D, G)."""
        return np.stack([raw[0][:, self.order] for _, raw in self.fold.test_draws()])

    def draws_of_the_law(self, count: int) -> Array:
        rng = np.random.default_rng(self.fold.number)
        return self.law.draw(self.pi, self.site, count, rng).astype(np.float32)

    def pathway_scores(self, expression: Array) -> Array:
        """(n, ..., G) -> (n, ..., P)."""
        return np.stack([self.standardiser.score(np.moveaxis(row, -1, 0)).T for row in expression])


def folds_of(results: Path) -> Iterator[Known]:
    known = pl.read_parquet(results / "source" / "truth.parquet")
    law = load_law()
    for path in sorted((results / "draws" / RUN).glob("fold-*.zarr")):
        names = (f"bags/{RUN.split('-')[0]}.safetensors", "expression.parquet", "slides.parquet")
        files = [results / name for name in (*names, "splits.tsv", "cohort.json")]
        cohort = patients.load_cohort(folds.read_genes(path), *files)
        fold = folds.load_fold(cohort, path)
        own = pl.DataFrame({"patient_id": list(fold.test.samples)}).join(
            known, on="patient_id", maintain_order="left"
        )
        position = {gene: index for index, gene in enumerate(cohort.genes)}
        _, members = score.load_members(results / "pathways" / "go-bp.parquet", law.genes)
        order = np.array([position[gene] for gene in law.genes])
        of_train = fold.train.truth[:, order]
        yield Known(
            fold,
            law,
            own.select(CLASSES).to_numpy(),
            own["site"].to_numpy(),
            order,
            ZScore.of(
                of_train.mean(axis=0),
                of_train.std(axis=0),
                ~gene_metrics.is_flat(of_train),
                members,
            ),
        )
