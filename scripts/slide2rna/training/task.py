"""Training inputs: the files of a fold, its train and val slides, genes and gene sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slide2rna.features.bag_file import ScaleKind
from slide2rna.pathways.membership import Pathways
from slide2rna.training.resampled_bags import ResampledBags


@dataclass(frozen=True)
class TrainingInputs:
    """Files of a cohort, the fold, and external data of the training.

    Attributes
    ----------
    partners : results folders of partner cohorts.
    start : folder of the model that the fit starts from.
    resamples : further bags of the slides.
    """

    bags: Path
    expression: Path
    splits: Path
    slides: Path
    pathways: Path
    fold: int
    partners: tuple[Path, ...] = ()
    start: Path | None = None
    resamples: Path | None = None


@dataclass(frozen=True)
class PartSlides:
    """Slides of a part.

    Attributes
    ----------
    means, sizes : (N, K, d), (N, K) bags.
    values : (N, G) log2(x+1).
    sample_ids : sample of each slide, a row of the expression table.
    units : split unit of each slide, which folds keep together.
    resamples : further bags of train slides.
    """

    means: np.ndarray
    sizes: np.ndarray
    values: np.ndarray
    sample_ids: list[str]
    units: list[str]
    resamples: ResampledBags | None = None


@dataclass(frozen=True)
class FoldTask:
    """Training data of a network: a fold's train and val slides, genes and gene sets.

    `scale` and `missing` are those of the bags (`bag_file.Bags`).
    """

    train: PartSlides
    val: PartSlides
    genes: list[str]
    sets: Pathways | None
    fold: int
    seed: int
    scale: ScaleKind = "zscore"
    missing: bool = False
