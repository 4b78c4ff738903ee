"""Evaluation at full size, and correlations with p values against scipy's loop over genes.

The input is made up on disk in the layout of the stages before: 20,820 genes, 536 samples in five
folds, 100 draws each, 3,000 pathways. The yardsticks of the evaluation are the promises: 3
minutes and 3 GB on 2 cores, for the model with all nulls and 1,000 bootstrap resamples.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = str(os.environ.get("BENCH_THREADS", "2"))

import argparse
import json
import tempfile
from pathlib import Path

import common
import numpy as np
import polars as pl
import zarr
from scipy import stats
from slide2rna.core import config, files
from slide2rna.evaluation import evaluate
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring.evaluated import EvaluationInputs
from slide2rna.features import bag_file
from slide2rna.storage import parquet

THREADS = int(os.environ["OMP_NUM_THREADS"])
GENES, SAMPLES, DRAWS, FOLDS, PATHWAYS, CHUNK = 20_820, 536, 100, 5, 3000, 4096
CLUSTERS, FEATURES, FACTORS, SITES = 100, 1024, 10, 12
RUN = "uni-flow-go-bp"
MINUTES, GIGABYTES, TIMES = 3, 3, 30


def make(folder: Path) -> None:
    """Write the input: profiles of ten factors, which the bags show with noise."""
    rng = np.random.default_rng(0)
    names = [f"P{i:04d}" for i in range(SAMPLES)]
    genes = [f"GENE{i:05d}" for i in range(GENES)]
    factors = rng.normal(size=(SAMPLES, FACTORS)).astype(np.float32)
    loading = rng.normal(size=(FACTORS, GENES)).astype(np.float32) / 5
    mean = rng.uniform(0, 12, GENES).astype(np.float32) + factors @ loading
    noise = rng.normal(size=(DRAWS, GENES)).astype(np.float32)
    truth = np.maximum(mean + rng.normal(size=mean.shape).astype(np.float32), 0)
    expression = pl.DataFrame(truth, schema=genes).insert_column(0, pl.Series("sample_id", names))
    parquet.write(expression, folder / "expression.parquet")
    site = [f"site {i % SITES}" for i in range(SAMPLES)]
    ids = {key: names for key in ("slide_id", "patient_id", "sample_id", "unit")}
    parquet.write(pl.DataFrame(ids | {"site": site}), folder / "slides.parquet")
    seen = factors @ rng.normal(size=(FACTORS, FEATURES)).astype(np.float32)
    means = seen[:, None] + rng.normal(size=(SAMPLES, CLUSTERS, FEATURES)).astype(np.float32)
    sizes = np.full((SAMPLES, CLUSTERS), 40, np.float32)
    color = rng.normal(size=(SAMPLES, 6)).astype(np.float32)
    tiles = np.full(SAMPLES, 4000)
    found = bag_file.Bags(means, sizes, color, tiles, names, "uni", CLUSTERS)
    bag_file.save(found, folder / "bags.safetensors")
    members = {"pathway": [], "name": [], "gene": []}  # type: ignore[var-annotated]
    for number in range(PATHWAYS):
        chosen = rng.choice(GENES, rng.integers(10, 150), replace=False)
        members["pathway"] += [f"GO:{number:07d}"] * len(chosen)
        members["name"] += [f"process {number}"] * len(chosen)
        members["gene"] += [genes[gene] for gene in chosen]
    parquet.write(pl.DataFrame(members), folder / "go-bp.parquet")
    files.write_json({"name": "full-size"}, folder / "cohort.json")
    rows = []
    for fold in range(FOLDS):
        rest = [i for i in range(SAMPLES) if i % FOLDS != fold]
        parts = dict.fromkeys(rest, "train") | dict.fromkeys(rest[:43], "val")
        parts |= dict.fromkeys(rest[43:86], "cal")
        parts |= {i: "test" for i in range(SAMPLES) if i % FOLDS == fold}
        rows += [(names[i], fold, parts[i]) for i in range(SAMPLES)]
        drawn = [i for i in range(SAMPLES) if parts[i] != "train"]
        write_draws(folder / f"fold-{fold}.zarr", fold, drawn, parts, names, genes, mean, noise)
        model = {"settings": {"model": {"name": "flow"}}, "genes": genes}
        files.write_json(model, folder / f"fold-{fold}" / "model.json")
    table = pl.DataFrame(rows, schema=["unit", "fold", "part"], orient="row")
    files.write_text(table.write_csv(separator="\t"), folder / "splits.tsv")


def write_draws(
    path: Path,
    fold: int,
    drawn: list[int],
    parts: dict[int, str],
    names: list[str],
    genes: list[str],
    mean: np.ndarray,
    noise: np.ndarray,
) -> None:
    """Write a fold's points with mean and sd of the draws, and the draws of its test slides."""
    store = zarr.create_group(path, zarr_format=3)
    shape = (len(drawn), DRAWS, GENES)
    chunks = (1, DRAWS, CHUNK)
    draws = store.create_array(
        "draws", shape=shape, chunks=chunks, dtype="float16", fill_value=np.nan
    )
    for row, index in enumerate(drawn):
        if parts[index] == "test":
            values = np.roll(noise, 7919 * index)
            values += mean[index]
            draws[row] = np.maximum(values, 0, out=values).astype(np.float16)
    for name, points in (
        ("point", mean[drawn]),
        ("point_spread", np.full_like(mean[drawn], 0.1)),
        ("mean", mean[drawn]),
        ("sd", np.ones_like(mean[drawn])),
    ):
        array = store.create_array(name, shape=points.shape, chunks=(1, CHUNK), dtype="float32")
        array[:] = points
    store.attrs.update(
        {"slide_ids": [names[i] for i in drawn], "parts": [parts[i] for i in drawn]}
        | {"genes": genes, "fold": fold, "model": "flow", "guidance": 1.0}
    )


def work(folder: Path) -> None:
    """Evaluate, and print the seconds and the peak memory of this process."""
    inputs = EvaluationInputs(
        draws=[folder / f"fold-{fold}.zarr" for fold in range(FOLDS)],
        models=[folder / f"fold-{fold}" for fold in range(FOLDS)],
        bags=folder / "bags.safetensors",
        expression=folder / "expression.parquet",
        slides=folder / "slides.parquet",
        splits=folder / "splits.tsv",
        cohort=folder / "cohort.json",
        pathways=folder / "go-bp.parquet",
    )
    settings = config.defaults("evaluate")
    seconds = common.seconds(
        lambda: evaluate.evaluate(inputs, RUN, folder / "evaluation", settings, 1, THREADS)
    )
    print(json.dumps({"seconds": seconds, "mb": common.peak_mb()}))


def full_size() -> bool:
    """Measure time and peak memory of one evaluation in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        common.in_own_process(__file__, "--make", folder)
        found = json.loads(common.in_own_process(__file__, "--work", folder))
    what = f"evaluation: {GENES:,} genes, {SAMPLES} samples, {DRAWS} draws, 1,000 resamples"
    ok = []
    for value, unit, limit in ((found["seconds"], "s", 60 * MINUTES), (found["mb"], "MB", 3000)):
        ratio = limit / value
        line = {"name": what, "value": round(value, 1), "unit": unit, "target": 1.0}
        line |= {"yardstick": f"at most {limit} {unit} on {THREADS} cores"}
        ok.append(ratio >= 1)
        print(json.dumps(line | {"ratio": round(ratio, 2), "ok": ok[-1]}), flush=True)
    return all(ok)


def correlations() -> bool:
    """Time PCC with p values of all genes, equal to scipy's to 1e-10."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, SAMPLES, GENES))
    y += rng.uniform(-1, 1, GENES) * x

    def loop() -> np.ndarray:
        return np.array([stats.pearsonr(x[:, gene], y[:, gene]) for gene in range(GENES)]).T

    np.testing.assert_allclose(gene_metrics.pcc_test(x, y), loop(), rtol=0, atol=1e-10)
    return common.compare(
        f"correlations with p values: {GENES:,} genes, {SAMPLES} samples",
        lambda: gene_metrics.pcc_test(x, y),
        loop,
        "scipy.stats.pearsonr, gene by gene",
        TIMES,
        GENES,
        "genes/s",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.make)
        print("made")
    elif args.work:
        work(args.work)
    else:
        common.finish([full_size(), correlations()])


if __name__ == "__main__":
    main()
