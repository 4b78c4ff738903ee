"""Tables of a packaged model: genes and pathways with their train statistics and reliability."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna.core.errors import StageError
from slide2rna.data import fold_rows
from slide2rna.evaluation.scoring.score import load_members
from slide2rna.features import bag_file
from slide2rna.package import reliability
from slide2rna.pathways import activity
from slide2rna.storage import parquet


@dataclass(frozen=True)
class FinishedRun:
    """A finished run in its cohort's folder.

    Attributes
    ----------
    folder : results/<cohort>.
    run : its name; the model's folder is models/<run>.
    encoder : name of the features and bags.
    sets : name of the gene sets.
    folds : numbers.
    """

    folder: Path
    run: str
    encoder: str
    sets: str
    folds: list[int]

    @property
    def model(self) -> Path:
        return self.folder / "models" / self.run

    @property
    def bags(self) -> Path:
        return self.folder / "bags" / f"{self.encoder}.safetensors"

    def table(self, name: str) -> pl.DataFrame:
        """Read a table of the run's evaluation.

        Raises
        ------
        StageError
            It is missing.
        """
        path = self.folder / "evaluation" / self.run / f"{name}.parquet"
        if not path.is_file():
            raise StageError(path, "no such table", "run the stage evaluate")
        return parquet.read(path)

    def shift(self, fold: int) -> Path:
        return self.folder / "shift" / self.run / f"fold-{fold}.safetensors"


def fewest_patients(samples: pl.DataFrame) -> int:
    """Count the test patients of the smallest fold, from evaluation's samples.parquet."""
    return int(samples.group_by("fold").agg(pl.col("patient_id").n_unique())["patient_id"].min())  # type: ignore[arg-type]


def gene_table(
    evaluated: pl.DataFrame,
    genes: list[str],
    mean: NDArray[np.float64],
    sd: NDArray[np.float64],
    fewest: int,
) -> pl.DataFrame:
    """Return a row per gene in the model's order: train mean and sd, test scores, reliability.

    Parameters
    ----------
    evaluated : evaluation's genes.parquet.
    mean, sd : (G,) of the train samples, log2 units.
    fewest : test patients of the smallest fold.

    Raises
    ------
    StageError
        Its genes aren't those of the models.
    """
    if evaluated["gene"].to_list() != genes:
        raise StageError(
            "genes.parquet", "its genes differ from the models'", "rerun the stage evaluate"
        )
    columns = ["r", "r_low", "r_high", "p", "fdr", "rmse", "rmse_ratio", "crps"]
    columns += ["covered90", "width90", "constant_in_train", "n_samples"]
    columns += [f"r_{name}" for name in reliability.null_models(evaluated)]
    columns += [name for name in evaluated.columns if name.startswith(("fdr_minus_", "in_T"))]
    return pl.DataFrame({"gene": genes, "mean": mean, "sd": sd}).hstack(
        evaluated.select(columns).with_columns(
            reliability.rate_genes(evaluated, fewest).alias("reliability")
        )
    )


def pathway_table(
    source: FinishedRun,
    genes: list[str],
    mean: NDArray[np.float64],
    sd: NDArray[np.float64],
    score: str,
    fewest: int,
) -> pl.DataFrame:
    """Return a row per pathway: genes, measured train score, test scores, reliability.

    Scores use the mean over folds of the train statistics, as for a new slide. train_mean and
    train_sd are those of a fold's train samples, averaged over folds.
    """
    names, sets = load_members(source.folder / "pathways" / f"{source.sets}.parquet", genes)
    method = activity.scoring_method(score, mean, sd, sd > 0, sets)
    middle, spread = _train_scores(source, genes, method)
    lists = [
        [genes[column] for column in sets.indices[start:stop]]
        for start, stop in zip(sets.indptr[:-1], sets.indptr[1:], strict=True)
    ]
    evaluated = source.table("pathways")
    columns = [
        *("r", "r_low", "r_high", "rmse", "rmse_constant", "crps", "covered90"),
        *(f"r_{name}" for name in reliability.null_models(evaluated)),
    ]
    rated = evaluated.select("pathway", *columns).with_columns(
        reliability.rate_pathways(evaluated, fewest).alias("reliability")
    )
    scorable = np.where(method.scorable, 1.0, np.nan)
    table = names.with_columns(
        pl.Series("genes", lists, dtype=pl.List(pl.String)),
        pl.Series("train_mean", middle * scorable).fill_nan(None),
        pl.Series("train_sd", spread * scorable).fill_nan(None),
    )
    return table.join(rated, on="pathway", how="left", maintain_order="left").with_columns(
        pl.col("reliability").fill_null(reliability.UNKNOWN)
    )


def _train_scores(
    source: FinishedRun, genes: list[str], method: activity.ScoringMethod
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sd (P,) of a fold's measured train scores, averaged over folds."""
    ids, _, _ = bag_file.open_bags(source.bags)
    expression = source.folder / "expression.parquet"
    columns = fold_rows.gene_names(expression)
    gene_index = {gene: index for index, gene in enumerate(columns)}
    parts = []
    for fold in source.folds:
        rows = fold_rows.read_fold_rows(
            ids, source.folder / "slides.parquet", source.folder / "splits.tsv", fold
        )
        parts.append(sorted(set(rows.of("train").sample_ids)))
    samples = sorted(set().union(*parts))
    sample_row = {name: row for row, name in enumerate(samples)}
    values = fold_rows.read_expression_matrix(expression, samples)[
        :, [gene_index[gene] for gene in genes]
    ]
    scores = np.asarray(method.score(values.T))
    moments = []
    for part in parts:
        part_scores = scores[:, [sample_row[name] for name in part]]
        moments.append([part_scores.mean(axis=1), part_scores.std(axis=1, ddof=1)])
    middle, spread = np.mean(np.array(moments, dtype=np.float64), axis=0)
    return middle, spread
