"""All that a new slide needs of a finished run, gathered beside its fold models."""

from __future__ import annotations

import shutil
from typing import Any

import polars as pl

from slide2rna import __version__
from slide2rna.core import files
from slide2rna.core.config import Settings
from slide2rna.core.errors import WeightsError
from slide2rna.features import bag_file, feature_file, registry
from slide2rna.package import fold_models, model_card, predictor, reliability, training_slides
from slide2rna.package.package_tables import FinishedRun, fewest_patients, gene_table, pathway_table

SECTIONS = ("tiles", "features", "bags", "sample", "evaluate", "shift")
DATA = (
    *("source", "n_patients", "n_samples", "n_slides", "n_sites", "n_genes"),
    *("split_unit", "folds"),
)


def package_run(source: FinishedRun, settings: dict[str, Settings], seed: int) -> None:
    """Write the model's tables, predictor.json and its card beside the folds.

    Parameters
    ----------
    settings : the sections `SECTIONS` of the run's configuration.
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
    of_genes = gene_table(source.table("genes"), genes, mean, sd, fewest)
    stated = features_stated(source)
    name = settings["evaluate"]["pathway_score"]
    of_pathways = pathway_table(source, genes, mean, sd, name, fewest)
    factors = source.table("conformal_factors").filter(pl.col("site").is_null())
    out = source.model
    files.write_parquet(of_genes, out / predictor.GENES)
    files.write_parquet(of_pathways, out / predictor.PATHWAYS)
    known = training_slides.training_table(
        source.bags, source.folder / "slides.parquet", source.folder / "splits.tsv", source.folds
    )
    files.write_parquet(known, out / training_slides.FILE)
    kept = factors.select(list(predictor.CONFORMAL_SCHEMA))
    files.write_parquet(kept, out / predictor.CONFORMAL)
    for fold in source.folds:
        with files.atomic(out / "familiar" / f"fold-{fold}.safetensors") as partial:
            shutil.copyfile(source.shift(fold), partial)
    own = settings["features"]["encoder"] == "files"
    about = {
        "format": predictor.FORMAT,
        "packaged": True,
        "cohort": info["name"],
        "run": source.run,
        "model": metas[0]["model"],
        "encoder": settings["features"]["encoder"],
        "encoder_identity": identity(settings["features"]),
        # Where files lie on one machine says nothing on another.
        "features": settings["features"] | {"path": None, "weights": None},
        "dim": metas[0]["features"],
        # Own features were made by tiles that this configuration says nothing of.
        "tiles": None if own else settings["tiles"],
        "made_by": stated["made_by"] if own else None,
        "tile_mpp": stated["mpp"] if own else settings["tiles"]["mpp"],
        "bags": settings["bags"],
        "sample": settings["sample"],
        "seed": seed,
        "folds": source.folds,
        "weights": {
            folder.name: files.sha256sum(folder / "model.safetensors") for folder in folders
        },
        "pathway_score": name,
        "alpha": settings["shift"]["alpha"],
        "levels": sorted(settings["evaluate"]["levels"]),
        "caveat": info.get("caveat"),
        "reliability": {
            "genes": reliability.GENE_RULE,
            "pathways": reliability.PATHWAY_RULE,
            "patients_of_smallest_fold": fewest,
        },
        "data": {key: info.get(key) for key in DATA} | of_bags(source),
        "pcc": pcc(source.table("summary"), metas[0]["model"]),
        "version": __version__,
    }
    facts = model_card.CardFacts(
        about,
        metas,
        of_genes,
        of_pathways,
        *(source.table(name) for name in ("summary", "calibration", "conformal", "samples")),
    )
    files.write_text(model_card.text(facts), out / "README.md")
    files.write_json(about, out / predictor.ABOUT)  # last: it vouches for the others


def features_stated(source: FinishedRun) -> dict[str, Any]:
    """What the features files of the training say: made_by (encoder) and mpp, of their tiles.

    None where no file says it, or they differ.
    """
    paths = sorted((source.folder / "features" / source.encoder).glob("*.h5"))
    said = [feature_file.attributes_of(path) for path in paths]
    found: dict[str, Any] = {}
    for name, kind in (("made_by", str), ("mpp", float)):
        values = {known.get(name) for known in said}
        (only,) = values if len(values) == 1 else (None,)
        found[name] = None if only is None else kind(only)
    return found


def of_bags(source: FinishedRun) -> dict[str, int]:
    """Slides and patients that the bags hold, and patients with more slides than one.

    Slides that failed aren't among them; intervals are of the mean over a patient's slides.
    """
    ids, _, _ = bag_file.stored(source.bags)
    slides = pl.read_parquet(source.folder / "slides.parquet", columns=["slide_id", "patient_id"])
    counts = slides.filter(pl.col("slide_id").is_in(ids)).group_by("patient_id").len()
    several = counts.filter(pl.col("len") > 1).height
    return {
        "n_slides": len(ids),
        "n_patients": counts.height,
        "n_patients_several_slides": several,
    }


def pcc(summary: pl.DataFrame, model: str) -> dict[str, Any] | None:
    """What the report says first: mean correlation over all genes, and its interval."""
    found = summary.filter(protocol="clean", model=model, gene_set="all", metric="pcc")
    rows = found.select("value", "low", "high", "n_genes").to_dicts()
    return rows[0] if rows else None


def identity(features: Settings) -> str | None:
    """`encoders.identity`, or None where the weights' file isn't there any more."""
    try:
        return registry.identity(features)
    except WeightsError:
        return None
