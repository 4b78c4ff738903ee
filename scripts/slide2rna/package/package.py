"""Packaging: tables, metadata and model card of a finished run, written next to its fold models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, TypedDict

import polars as pl

from slide2rna import __version__
from slide2rna.core import encoder_names, files
from slide2rna.core.errors import WeightsError
from slide2rna.core.settings import (
    BagsSettings,
    EvaluateSettings,
    FeaturesSettings,
    SampleSettings,
    ShiftSettings,
    TilesSettings,
)
from slide2rna.core.types import Row
from slide2rna.features import bag_file, feature_file, registry, weights_record
from slide2rna.package import (
    digests,
    fold_models,
    model_card,
    predictor,
    reliability,
    training_slides,
)
from slide2rna.package.package_tables import FinishedRun, fewest_patients, gene_table, pathway_table
from slide2rna.storage import parquet

SECTIONS = ("tiles", "features", "bags", "sample", "evaluate", "shift")
DATA = (
    *("source", "n_patients", "n_samples", "n_slides", "n_sites", "n_genes"),
    *("split_unit", "folds"),
)


class PackageSettings(TypedDict):
    """Sections of the run's configuration; see `SECTIONS`."""

    tiles: TilesSettings
    features: FeaturesSettings
    bags: BagsSettings
    sample: SampleSettings
    evaluate: EvaluateSettings
    shift: ShiftSettings


def package_run(source: FinishedRun, settings: PackageSettings, seed: int) -> None:
    """Write the model's tables, predictor.json and model card next to the folds.

    Parameters
    ----------
    seed : of the run's draws.

    Raises
    ------
    StageError
        A table is missing, or the files don't belong together.
    """
    info = files.read_json(source.folder / "cohort.json")
    folders = [source.model / f"fold-{fold}" for fold in source.folds]
    metas = [files.read_json(folder / "model.json") for folder in folders]
    genes = list(metas[0]["genes"])
    mean, sd = fold_models.train_statistics(folders)
    fewest = fewest_patients(source.table("samples"))
    packaged_genes = gene_table(source.table("genes"), genes, mean, sd, fewest)
    feature_source = read_feature_source(source)
    score = settings["evaluate"]["pathway_score"]
    packaged_pathways = pathway_table(source, genes, mean, sd, score, fewest)
    factors = source.table("conformal_factors").filter(pl.col("site").is_null())
    out = source.model
    parquet.write(packaged_genes, out / predictor.GENES)
    parquet.write(packaged_pathways, out / predictor.PATHWAYS)
    cohort_slides = training_slides.training_table(
        source.bags,
        source.folder / "slides.parquet",
        source.folder / "splits.tsv",
        dict(zip(source.folds, folders, strict=True)),
    )
    parquet.write(cohort_slides, out / training_slides.FILE)
    factors = factors.select(list(predictor.CONFORMAL_SCHEMA))
    parquet.write(factors, out / predictor.CONFORMAL)
    for fold in source.folds:
        with files.atomic(out / "familiar" / f"fold-{fold}.safetensors") as partial:
            shutil.copyfile(source.shift(fold), partial)
    from_files = settings["features"]["encoder"] == "files"
    made = source.folder / "features" / source.encoder
    about = {
        "format": predictor.FORMAT,
        "packaged": True,
        "cohort": info["name"],
        "run": source.run,
        "model": metas[0]["model"],
        "encoder": encoder_names.title(settings["features"]),
        "encoder_identity": encoder_identity(settings["features"], made),
        # Paths of this machine are meaningless on another.
        "features": weights_record.pinned(settings["features"], made)
        | {"path": None, "weights": None},
        "dim": metas[0]["features"],
        # The configuration doesn't describe the tiles of features from files.
        "tiles": None if from_files else settings["tiles"],
        "made_by": feature_source["made_by"] if from_files else None,
        "tile_mpp": feature_source["mpp"] if from_files else settings["tiles"]["mpp"],
        # A new slide has one bag, of all its tiles.
        "bags": {key: settings["bags"][key] for key in ("k", "iterations")},
        "sample": settings["sample"],
        "seed": seed,
        "folds": source.folds,
        "pathway_score": score,
        "alpha": settings["shift"]["alpha"],
        "levels": sorted(settings["evaluate"]["levels"]),
        "caveat": info.get("caveat"),
        "reliability": {
            "genes": reliability.GENE_RULE,
            "pathways": reliability.PATHWAY_RULE,
            "patients_of_smallest_fold": fewest,
        },
        "data": {key: info.get(key) for key in DATA} | bag_counts(source),
        "pcc": mean_correlation(source.table("summary"), metas[0]["model"]),
        "version": __version__,
    }
    facts = model_card.CardFacts(
        about,
        metas,
        packaged_genes,
        packaged_pathways,
        *(source.table(name) for name in ("summary", "calibration", "conformal", "samples")),
    )
    files.write_text(model_card.text(facts), out / "README.md")
    about["digests"] = digests.of_folder(out)
    files.write_json(about, out / predictor.ABOUT)  # last: it marks the package as complete


def read_feature_source(source: FinishedRun) -> dict[str, Any]:
    """Read made_by (encoder) and mpp (of the tiles) from the training's feature files.

    None if no file states it, or the files differ.
    """
    paths = sorted((source.folder / "features" / source.encoder).glob("*.h5"))
    attributes = [feature_file.read_attributes(path) for path in paths]
    common: dict[str, Any] = {}
    for name, kind in (("made_by", str), ("mpp", float)):
        values = {attribute.get(name) for attribute in attributes}
        (value,) = values if len(values) == 1 else (None,)
        common[name] = None if value is None else kind(value)
    return common


def bag_counts(source: FinishedRun) -> dict[str, int]:
    """Count slides and patients in the bags, and patients with several slides.

    Failed slides have no bag. Intervals are for the mean over a patient's slides.
    """
    ids, _, _ = bag_file.open_bags(source.bags)
    slides = parquet.read(source.folder / "slides.parquet", columns=["slide_id", "patient_id"])
    counts = slides.filter(pl.col("slide_id").is_in(ids)).group_by("patient_id").len()
    several = counts.filter(pl.col("len") > 1).height
    return {
        "n_slides": len(ids),
        "n_patients": counts.height,
        "n_patients_several_slides": several,
    }


def mean_correlation(summary: pl.DataFrame, model: str) -> Row | None:
    """Return the report's headline: mean correlation over all genes, and its interval."""
    table = summary.filter(protocol="clean", model=model, gene_set="all", metric="pcc")
    rows = table.select("value", "low", "high", "n_genes").to_dicts()
    return rows[0] if rows else None


def encoder_identity(features: FeaturesSettings, folder: Path) -> str | None:
    """Return the recorded identity of a folder of features, or None if the weights are gone."""
    try:
        return weights_record.read(folder).get("identity") or registry.identity(features)
    except WeightsError:
        return None
