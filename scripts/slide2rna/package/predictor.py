"""Predictor: a trained run as one portable folder, loaded to predict new slides."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core import devices, files
from slide2rna.core.encoder_names import WeightsFiles
from slide2rna.core.errors import ConfigError, StageError, WeightsError, list_names
from slide2rna.features.registry import Encoder
from slide2rna.features.registry import load as load_encoder
from slide2rna.package import about_check, bare_models, digests, table_check, training_slides
from slide2rna.package.fold_models import FoldModels, fold_numbers
from slide2rna.pathways import activity
from slide2rna.pathways.activity import ScoringMethod
from slide2rna.storage import parquet

FORMAT = 2
ABOUT, GENES = "predictor.json", "genes.parquet"
PATHWAYS, CONFORMAL = "pathways.parquet", "conformal.parquet"
HUB_ALONE = " hub "  # in the identity of older packages: `<name> hub <repository>`
NO_TILES = "the tiles of its training aren't recorded"

CONFORMAL_SCHEMA = pl.Schema(
    {
        "fold": pl.Int64,
        "gene": pl.String,
        "level": pl.Float64,
        "attainable": pl.Float64,
        "n_cal": pl.Int64,
        "factor": pl.Float64,
        "sd_floor": pl.Float64,
    }
)


@dataclass(frozen=True)
class Predictor:
    """A packaged model, loaded to predict new slides.

    Attributes
    ----------
    folder : where it was read from.
    about : the content of predictor.json.
    fold_models : the fold models, each loaded on first access.
    genes : (G,) names, in the order of every array of genes.
    gene_table : a row per gene in that order, with mean and sd of the train samples in log2
        units, how well the gene was predicted on test patients, and `reliability`.
    pathway_table : a row per gene set, with its genes and the same columns for its score.
    conformal : a row per fold, level and gene; see `conformal.factor_table`.
    device : of the fold models.
    cohort_slides : a row per slide of the cohort; see `training_slides.training_table`.
    """

    folder: Path
    about: dict[str, Any]
    fold_models: FoldModels
    genes: list[str]
    gene_table: pl.DataFrame
    pathway_table: pl.DataFrame
    conformal: pl.DataFrame
    device: torch.device
    cohort_slides: pl.DataFrame = field(default_factory=training_slides.empty_table)

    @property
    def n_clusters(self) -> int:
        """K, the length of a bag."""
        return int(self.about["bags"]["k"]) if self.level == "tile" else 1

    @property
    def level(self) -> str:
        """What a feature file describes: tile, or slide (one vector)."""
        return str((self.about.get("features") or {}).get("level", "tile"))

    @property
    def feature_dim(self) -> int:
        """d, numbers per tile."""
        return int(self.about["dim"])

    def check_slides(self) -> None:
        """Check that slides can be tiled and encoded as those of the training were.

        Raises
        ------
        ConfigError
            The training's tiles and encoder aren't recorded, or its features came from files.
        """
        from_files = (self.about["features"] or {}).get("encoder") == "files"
        if from_files or self.about["features"] is None or self.about["tiles"] is None:
            cause = "it was trained on features from files" if from_files else NO_TILES
            remedy = "give .h5 features made in the same way as those of its training"
            raise ConfigError(self.folder, f"this model can't read slides: {cause}", remedy)

    def encoder(self, threads: int, weights: WeightsFiles = None) -> Encoder:
        """Load the encoder that made the features of the training.

        Parameters
        ----------
        threads : of the encoder.
        weights : a local file, for weights that come neither with the package nor from the hub;
            with several encoders, a file by encoder.

        Raises
        ------
        ConfigError, WeightsError
            The encoder isn't recorded, its weights are missing, or they differ from those of the
            training.
        """
        self.check_slides()
        files_of = str(weights) if isinstance(weights, Path) else weights
        settings = self.about["features"] | {"weights": files_of}
        encoder = load_encoder(settings, self.device.type, threads, self.about["tiles"]["tile_px"])
        expected = self.about.get("encoder_identity")
        if expected and HUB_ALONE not in expected and expected != encoder.identity:
            cause = f"the weights are {encoder.identity}, but training used {expected}"
            where = self.about["encoder"] if weights is None else weights
            raise WeightsError(where, cause, "give the weights of the training")
        return encoder

    @property
    def made_by(self) -> str | None:
        """The encoder of the training's features; None if it isn't recorded."""
        encoder = self.about["encoder"]
        return self.about.get("made_by") if encoder == "files" else encoder

    def encoder_note(self, encoder: str | None) -> str | None:
        """Return why a file's encoder can't be compared with the training's; None if it can.

        Parameters
        ----------
        encoder : named by the feature file.
        """
        if self.made_by is None:
            return "The encoder of the training's features isn't recorded; yours must be the same"
        if encoder is None:
            return f"Its file names no encoder; the training's features were made by {self.made_by}"
        return None

    def weights_note(self) -> str | None:
        """Return why weights can't be compared with those of the training; None if they can."""
        expected, name = self.about.get("encoder_identity"), self.about["encoder"]
        if expected is None:
            return f"The weights of {name} in training aren't recorded"
        if HUB_ALONE in expected:
            return f"Of the weights of {name} in training only the page is recorded"
        return None

    def trained_folds(self, name: str) -> int:
        """Count fold models trained on the slide of this name; 0 if it isn't in the cohort."""
        return training_slides.match_by_name(self.cohort_slides, name) or 0

    @cached_property
    def method(self) -> ScoringMethod:
        """Pathway scorer for profiles, with the train statistics of `gene_table`."""
        mean, sd = (self.gene_table[name].to_numpy() for name in ("mean", "sd"))
        name = self.about["pathway_score"]
        return activity.scoring_method(name, mean, sd, sd > 0, self.sets, np.float32)

    @cached_property
    def sets(self) -> sparse.csr_matrix:
        """Membership (P, G); rows sum to 1 over the genes of a set."""
        gene_index = {gene: index for index, gene in enumerate(self.genes)}
        lists = self.pathway_table["genes"].to_list()
        columns = np.array([gene_index[gene] for genes in lists for gene in genes], dtype=np.int64)
        lengths = np.array([len(genes) for genes in lists], dtype=np.int64)
        rows = np.repeat(np.arange(len(lists)), lengths)
        values = (1.0 / lengths[rows]).astype(np.float32)
        return sparse.csr_matrix((values, (rows, columns)), (len(lists), len(self.genes)))

    @cached_property
    def factors(self) -> dict[int, dict[float, NDArray[np.float64]]]:
        """Conformal factor and minimum sd of each gene (2, G), by fold and attainable level."""
        factors: dict[int, dict[float, NDArray[np.float64]]] = {}
        attainable = self.conformal.filter(pl.col("gene").is_not_null())
        for (fold, level), table in attainable.group_by("fold", "level", maintain_order=True):
            if table["gene"].to_list() != self.genes:
                cause = f"genes of fold {fold} differ from those of {GENES}"
                raise StageError(self.folder / CONFORMAL, cause, "package the run again")
            factors.setdefault(int(str(fold)), {})[float(str(level))] = np.stack(
                [table["factor"].to_numpy(), table["sd_floor"].to_numpy()]
            )
        return factors

    @cached_property
    def key(self) -> str:
        """Digest of everything that predictions depend on; fold models enter by their digests."""
        found = self.about.get("digests") or digests.of_folder(self.folder)
        content = [self.about, found]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def find(path: str | Path) -> Path:
    """Return a model's folder: the path itself, or the only run below results/<cohort>.

    Raises
    ------
    ConfigError
        There is no model, or there are several.
    """
    path = Path(path)
    if path.is_file():
        path = path.parent
    if (path / ABOUT).is_file():
        return path
    for base in (path / "models", path):
        folders = sorted(item.parent for item in base.glob(f"*/{ABOUT}"))
        if len(folders) == 1:
            return folders[0]
        if folders:
            names = list_names([folder.name for folder in folders], 10)
            cause = f"it has {len(folders)} models: {names}"
            raise ConfigError(path, cause, f"name one, such as {folders[0]}")
    if (path / "model.json").is_file():
        path = path.parent
    if fold_numbers(path):
        return path
    if bare := [item.name for base in (path / "models", path) for item in _trained_runs(base)]:
        cause = f"no packaged model, only trained ones: {list_names(bare, 10)}"
        remedy = "let snakemake finish the cohort, or name a run to get predictions only"
        raise ConfigError(path, cause, remedy)
    cause = "no model there" if path.is_dir() else "no such folder"
    remedy = "give results/<cohort>/models/<run>, or a folder that slide2rna convert made"
    raise ConfigError(path, cause, remedy)


def _trained_runs(folder: Path) -> list[Path]:
    return sorted({path.parent.parent for path in folder.glob("*/fold-*/model.json")})


def load(folder: str | Path, device: str = "auto") -> Predictor:
    """Load a predictor from a path that `find` accepts.

    A folder without predictor.json (a converted checkpoint, or a run that wasn't packaged) gives
    predictions only: no conformal intervals, no reliability, no out-of-distribution test.

    Raises
    ------
    ConfigError
        There is no model.
    WeightsError, StageError
        Files are missing, or don't belong together.
    """
    folder = find(folder)
    chosen = devices.choose_device(device)
    if not (folder / ABOUT).is_file():
        members = FoldModels(folder, fold_numbers(folder), chosen)
        about, genes, pathways = bare_models.describe_bare_models(members, folder)
        no_factors = pl.DataFrame(schema=CONFORMAL_SCHEMA)
        names = genes["gene"].to_list()
        return Predictor(folder, about, members, names, genes, pathways, no_factors, chosen)
    try:
        about = files.read_json(folder / ABOUT)
        genes, pathways, conformal = (
            parquet.read(folder / name) for name in (GENES, PATHWAYS, CONFORMAL)
        )
        cohort_slides = training_slides.read_table(folder)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise StageError(
            folder, f"not a complete model ({error})", "package or copy it again"
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise StageError(folder / ABOUT, "not this version's format", "package the run again")
    about_check.check_about(folder / ABOUT, about)
    digests.check(folder, about["digests"])
    table_check.check_genes(folder / GENES, genes)
    names = genes["gene"].to_list()
    table_check.check_pathways(folder / PATHWAYS, pathways, names)
    numbers = dict.fromkeys(CONFORMAL_SCHEMA, table_check.NUMBER)
    table_check.check_columns(folder / CONFORMAL, conformal, numbers | {"gene": table_check.TEXT})
    members = FoldModels(folder, about["folds"], chosen, about["digests"], names, about["dim"])
    members.check_references()
    return Predictor(
        folder, about, members, names, genes, pathways, conformal, chosen, cohort_slides
    )
