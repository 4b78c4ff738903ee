"""A small linear-Gaussian cohort on disk, as train and sample read it: x = m(y) + noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from slide2rna.core import config, files
from slide2rna.features import bag_file
from slide2rna.pathways import build, membership
from slide2rna.storage import parquet
from slide2rna.training import loop, task


@dataclass(frozen=True)
class FlowCohort:
    """Files, and the truth: conditional mean (patients, G) and noise sd (G,) in log2 units."""

    inputs: task.TrainingInputs
    guard: Path
    mean: np.ndarray
    noise_sd: np.ndarray
    expression: np.ndarray
    patients: list[str]


def make(
    folder: Path,
    parts: dict[str, int],
    genes: int = 60,
    constant: int = 1,
    seed: int = 0,
    shared: float = 0.0,
) -> FlowCohort:
    """Write the cohort; the first patient of each part has two slides.

    Parameters
    ----------
    parts
        Number of patients per part, one fold (number 0).
    constant
        Number of genes (the last ones) with one value in all patients.
    shared
        Correlation of the noise between genes.
    """
    rng = np.random.default_rng(seed)
    n, k, d = sum(parts.values()), 6, 12
    patients = [f"P{i:03d}" for i in range(n)]
    part = [name for name, count in parts.items() for _ in range(count)]
    latent = rng.normal(size=(n, 3))
    mean = 8 + latent @ rng.normal(size=(3, genes)) * rng.uniform(0, 1, genes)
    noise_sd = rng.uniform(0.5, 1.5, genes)
    mean[:, genes - constant :] = 3.25
    noise_sd[genes - constant :] = 0
    noise = np.sqrt(1 - shared) * rng.normal(size=mean.shape)
    if shared:
        noise += np.sqrt(shared) * rng.normal(size=(n, 1))
    expression = (mean + noise_sd * noise).astype(np.float32)
    first = {part.index(name) for name in parts}
    rows = [
        (patients[i], f"{patients[i]}-{s}", i) for i in range(n) for s in range(1 + (i in first))
    ]
    centres, mixing = rng.normal(size=(k, d)), rng.normal(size=(3, d))
    which = [i for *_, i in rows]
    means = centres + (latent @ mixing)[which][:, None] + 0.3 * rng.normal(size=(len(rows), k, d))
    sizes = np.sort(rng.integers(1, 40, (len(rows), k)), axis=1)[:, ::-1].astype(np.float32)
    sizes[0, 4:] = 0  # a slide with fewer tiles than k
    means[0, 4:] = 0
    bagged = bag_file.Bags(
        means.astype(np.float32),
        sizes.copy(),
        np.full((len(rows), 6), 0.5, np.float32),
        sizes.sum(axis=1).astype(np.int64),
        [slide for _, slide, _ in rows],
        "files",
        k,
    )
    folder.mkdir(parents=True, exist_ok=True)
    bag_file.save(bagged, folder / "bags.safetensors")
    names = [f"G{i:04d}" for i in range(genes)]
    table = pl.DataFrame({"sample_id": patients} | dict(zip(names, expression.T, strict=True)))
    parquet.write(table, folder / "expression.parquet")
    ids = [patient for patient, *_ in rows]
    slides = pl.DataFrame(
        {"slide_id": bagged.slide_ids, "patient_id": ids, "sample_id": ids, "unit": ids}
    )
    parquet.write(slides, folder / "slides.parquet")
    splits = pl.DataFrame({"unit": patients, "fold": [0] * n, "part": part})
    splits.write_csv(folder / "splits.tsv", separator="\t")
    index = [
        np.sort(rng.choice(genes * 3 // 4, int(size), replace=False))
        for size in rng.integers(3, 12, 12)
    ]
    sets = membership.Pathways([f"set{i}" for i in range(12)], index, genes)
    parquet.write(build.pathways_table(sets, sets.names, names), folder / "sets.parquet")
    files.write_json({}, folder / "guard.json")
    inputs = task.TrainingInputs(
        *(folder / name for name in ("bags.safetensors", "expression.parquet", "splits.tsv")),
        *(folder / name for name in ("slides.parquet", "sets.parquet")),
        0,
    )
    return FlowCohort(inputs, folder / "guard.json", mean, noise_sd, expression, patients)


def settings(**train: object) -> dict[str, Any]:
    """A flow that trains in seconds."""
    small = {"hidden": 16, "blocks": 1, "heads": 2, "graph_heads": 2, "cluster_layers": 1}
    # Started from a ridge, so short a training would leave the network itself at zero.
    small |= {"skip": "gaussian"}
    quick = {"learning_rate": 3e-3, "batch": 16, "epochs": 6, "patience": 20, "val_noise": 4}
    return {
        "name": "flow",
        "model": config.defaults("model", **small),
        "train": config.defaults("train", **(quick | train)),
    }


def remembered(monkeypatch: pytest.MonkeyPatch) -> list[loop.Trainer]:
    """A list that every later training adds its trainer to."""
    trainers: list[loop.Trainer] = []
    run = loop.train_network

    def remember(trainer: loop.Trainer, *rest: object) -> loop.Result:
        trainers.append(trainer)
        return run(trainer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_network", remember)
    return trainers
