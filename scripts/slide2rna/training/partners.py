"""Partner cohorts: slides of other cohorts that join the fit of a fold's conditional mean.

A ridge on several cohorts, each centred and scaled by itself, learns associations that they share;
val decides its share. HE2RNA and SEQUOIA pre-train on all cancers for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from slide2rna.core.errors import StageError
from slide2rna.core.log import log
from slide2rna.core.types import Array
from slide2rna.data import fold_rows
from slide2rna.data.statistics import scale_of
from slide2rna.features import bag_file
from slide2rna.models.ridge import mean_of_bags
from slide2rna.storage import parquet, split_file

HELD_OUT = ("val", "cal", "test")


@dataclass(frozen=True)
class Partner:
    """Slides of another cohort, without those that the fold holds out.

    Attributes
    ----------
    name : of the cohort.
    seen : slide and patient of each slide.
    mean : (n, d) mean over each slide's tiles, in units of these slides.
    values : (n, g) log2(x+1) of the genes in common with the fold.
    sample_ids, units : (n,) sample and split unit of each slide.
    columns : (g,) column of each gene among the fold's genes.
    left_out : number of slides that the fold holds out.
    """

    name: str
    seen: list[tuple[str, str]]
    mean: Array
    values: Array
    sample_ids: list[str]
    units: list[str]
    columns: np.ndarray
    left_out: int


@dataclass(frozen=True)
class HeldOut:
    """Held-out values of a fold by column of slides.parquet (patients, slides, md5, sites).

    A site counts if no train slide is from it, as with `folds.by: leave-site-out`.
    """

    values: dict[str, set[str]]

    def rows(self, table: pl.DataFrame) -> pl.Expr:
        """Return a mask of another cohort's slides that share any of these values."""
        columns = [name for name in self.values if name in table.columns]
        shared = [pl.col(name).is_in(list(self.values[name])).fill_null(False) for name in columns]
        return pl.any_horizontal(shared)


def held_out_values(slides: Path, splits: Path, fold: int) -> HeldOut:
    """Return the values that a fold's val, cal and test parts hold out."""
    parts = split_file.read(splits)
    parts = parts.filter(pl.col("fold") == fold).select("unit", "part")
    table = parquet.read(slides).join(parts, on="unit", how="inner")
    held_out = table.filter(pl.col("part").is_in(HELD_OUT))
    values: dict[str, set[str]] = {
        name: set(held_out[name].drop_nulls())
        for name in ("patient_id", "sample_id", "slide_id", "md5", "site")
        if name in table.columns
    }
    if "site" in values:
        values["site"] -= set(table.filter(pl.col("part") == "train")["site"].drop_nulls())
    return HeldOut(values)


def load_partner(
    folder: Path, bags: str, genes: Sequence[str], made_by: tuple[int, str], held_out: HeldOut
) -> Partner:
    """Read a cohort's results folder as a partner.

    Parameters
    ----------
    folder : results/<cohort>.
    bags : name of the bags file, that of the fold's own cohort.
    genes, made_by : genes, number of features and encoder of the fold.
    held_out : of the fold; slides that share any of these values are left out.

    Raises
    ------
    StageError
        The cohort has other features, none of the genes, or no slide is left.
    """
    bagged = bag_file.load(folder / "bags" / bags)
    theirs = bagged.means.shape[2], bagged.encoder
    if theirs != made_by:
        cause = "{} features of {}, the fold's cohort has {} of {}".format(*theirs, *made_by)
        raise StageError(
            folder, cause, "remove it from pan, or encode both cohorts in the same way"
        )
    table_genes = fold_rows.gene_names(folder / "expression.parquet")
    position = {gene: column for column, gene in enumerate(genes)}
    shared = [column for column, gene in enumerate(table_genes) if gene in position]
    row_of = {name: row for row, name in enumerate(bagged.slide_ids)}
    samples = parquet.read(folder / "expression.parquet", columns=["sample_id"])["sample_id"]
    table = parquet.read(folder / "slides.parquet").sort("slide_id")
    table = table.filter(
        pl.col("slide_id").is_in(bagged.slide_ids) & pl.col("sample_id").is_in(samples.implode())
    )
    kept = table.filter(~held_out.rows(table))
    if not shared or not kept.height:
        cause = "no gene in common" if not shared else "the fold holds out all its patients"
        raise StageError(folder, cause, "remove it from pan")
    rows = np.array([row_of[name] for name in kept["slide_id"]])
    names = kept["sample_id"].to_list()
    values = fold_rows.read_expression_matrix(folder / "expression.parquet", names)[:, shared]
    means, sizes = bagged.means[rows], bagged.sizes[rows]
    scale = scale_of(means, sizes, bagged.scale, bagged.missing)
    left_out = table.height - kept.height
    log.info(
        "partner %s: %d slides, %d that the fold holds out are left out; %d of %d genes",
        *(folder.name, kept.height, left_out, len(shared), len(genes)),
    )
    columns = np.array([position[table_genes[column]] for column in shared])
    seen = list(kept.select("slide_id", "patient_id").iter_rows())
    features = scale.scale_features(torch.from_numpy(means)).numpy()
    return Partner(
        *(folder.name, seen, mean_of_bags(features, sizes), values),
        *(names, kept["unit"].to_list(), columns, left_out),
    )
