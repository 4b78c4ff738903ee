"""Run metadata: counts, cohort flow, pictures, parameters, versions."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import polars as pl
import yaml

from slide2rna import STEP_VERSIONS, __version__
from slide2rna.core.types import Row
from slide2rna.report.sections.run_tables import RunTables

PARTS = ("train", "val", "cal", "test")


class RunCounts(TypedDict):
    """Sizes of a run.

    slides : slides with a bag.
    k : tile clusters per bag.
    above : slides with more than 2 k tiles.
    """

    slides: int
    samples: int
    patients: int
    genes: int
    folds: int
    k: int
    above: int
    median_tiles: int


def counts(run: RunTables) -> RunCounts:
    """Count slides, samples, patients, genes, folds and tiles."""
    n_tiles, samples = run.bags.n_tiles, run.tables["samples"]
    return {
        "slides": len(run.bags.slide_ids),
        "samples": samples.height,
        "patients": samples["patient_id"].n_unique(),
        "genes": run.tables["genes"].height,
        "folds": samples["fold"].n_unique(),
        "k": run.bags.k,
        "above": int((n_tiles > 2 * run.bags.k).sum()),
        "median_tiles": int(np.median(n_tiles)),
    }


def flow(run: RunTables) -> list[Row]:
    """Count slides and patients left after each step, from the source to the scores.

    Returns
    -------
    Rows of step, slides, patients, and lost (slides since the step before; None in the first).
    """
    patient_of_slide = dict(run.slides.select("slide_id", "patient_id").iter_rows())
    used = [patient_of_slide[name] for name in run.bags.slide_ids if name in patient_of_slide]
    tested = set(run.tables["samples"]["patient_id"])
    steps = [dict(step) for step in run.cohort.get("flow") or []]
    steps += [
        {"step": "with features (in the bags)", "slides": len(used), "patients": len(set(used))},
        {
            "step": "scored in a test part",
            "slides": sum(patient in tested for patient in used),
            "patients": len(tested & set(used)),
        },
    ]
    for before, step in zip([None, *steps], steps, strict=False):
        step["lost"] = None if before is None else before["slides"] - step["slides"]
    return steps


def folds(run: RunTables) -> list[dict[str, int]]:
    """Count split units in each part of each fold: fold, train, val, cal, test."""
    part_sizes = run.splits.group_by("fold", "part").len().iter_rows()
    by_fold: dict[int, dict[str, int]] = {}
    for fold, part, count in part_sizes:
        by_fold.setdefault(fold, dict.fromkeys(PARTS, 0))[part] = count
    return [{"fold": fold} | by_fold[fold] for fold in sorted(by_fold)]


def reasons(dropped: list[Row]) -> list[tuple[str, int]]:
    """Count the reasons for which slides were excluded before training, most frequent first."""
    reason_counts: dict[str, int] = {}
    for row in dropped:
        # The text after a colon or a bracket names the file.
        reason = str(row.get("reason") or "no reason given").partition(":")[0].partition(" (")[0]
        reason_counts[reason] = reason_counts.get(reason, 0) + 1
    return sorted(reason_counts.items(), key=lambda pair: (-pair[1], pair[0]))


def parameters(run: RunTables) -> list[tuple[str, str]]:
    """Return scalars of the first fold's model.json, nested names joined; epochs of all folds."""
    if not run.models:
        return []
    scalars: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                walk(f"{prefix}.{key}" if prefix else key, value[key])
        elif value is None or isinstance(value, bool | int | float | str):
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            if len(text) <= 80:
                scalars.append((prefix, text))

    per_fold = ("best_epoch", "epochs", "val_loss", "fold")
    first = run.models[min(run.models)]
    walk("", {key: value for key, value in first.items() if key not in per_fold})
    for key in per_fold[:3]:
        values = [run.models[fold].get(key) for fold in sorted(run.models)]
        if any(value is not None for value in values):
            text = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
            scalars.append((f"{key} per fold", text))
    return scalars


def thumbnails(run: RunTables) -> dict[str, Path]:
    """Return the path of each slide's overview image, if it exists, by slide."""
    paths = {name: run.folder / "tiles" / f"{name}.jpg" for name in run.slides["slide_id"].sort()}
    return {name: path for name, path in paths.items() if path.is_file()}


def slide_facts(run: RunTables, slide: str) -> Row:
    """Return the number of tiles and the site of a slide."""
    site = run.slides.filter(pl.col("slide_id") == slide)["site"][0]
    if slide not in run.bags.slide_ids:
        return {"tiles": None, "site": site}
    return {"tiles": int(run.bags.n_tiles[run.bags.slide_ids.index(slide)]), "site": site}


# Packages that the numbers depend on; the rest is in the lock file.
PACKAGES = (
    *("torch", "torchvision", "timm", "onnxruntime", "faiss-cpu", "openslide-bin", "tifffile"),
    *("scikit-image", "scikit-learn", "numpy", "scipy", "polars", "zarr", "goatools", "snakemake"),
)
# Keys that hold paths. A folder says nothing about the method and differs between machines.
PLACES = ("path", "weights", "token_file", "source")


def packages() -> list[tuple[str, str]]:
    """Return versions of this software, of Python and of the packages that numbers depend on."""
    versions = [("slide2rna", __version__), ("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            versions.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return versions


def steps() -> list[tuple[str, int]]:
    """Return the version of every stage, which rises when the stage's results change."""
    return list(STEP_VERSIONS.items())


def seeds(models: Iterable[dict[str, Any]]) -> list[int]:
    """Return the seeds of the fold models."""
    return sorted({int(model["seed"]) for model in models if model.get("seed") is not None})


def configuration(settings: dict[str, Any] | None) -> str | None:
    """Format the cohort's settings as YAML, paths as file names only; None if missing.

    Examples
    --------
    >>> print(configuration({"features": {"encoder": "uni", "path": "/data/uni"}}), end="")
    features: {encoder: uni, path: uni}
    """
    if not settings:
        return None
    text = yaml.safe_dump(
        _strip_folders(settings),
        sort_keys=True,
        default_flow_style=None,
        width=100,
        allow_unicode=True,
    )
    return str(text)


def _strip_folders(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        # Weights may be a file by encoder.
        inside = key in PLACES
        return {k: _strip_folders(inner, key if inside else k) for k, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strip_folders(inner, key) for inner in value]
    if isinstance(value, str) and key in PLACES:
        return value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return value
