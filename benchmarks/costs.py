"""Memory of a stage in bags and profiles per slide, for docs/explanation/costs.md.

Every stage runs on simulated cohorts of two sizes, each in a separate process. The growth of its
peak memory, divided by the size of a slide's bag or profile, is the number that it holds. The
reference is `slide2rna.costs.HELD`, from which `slide2rna costs` extrapolates.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from common import ROOT, finish, in_own_process, peak_mb
from slide2rna.core import files
from slide2rna.features import bag_file
from slide2rna.operations import costs
from slide2rna.storage import parquet

SIZES = (500, 2000)
# Clusters, features, genes: once the bags are large, once the profiles.
SHAPES = {"bags": (100, 256, 500), "profiles": (4, 8, 10_000)}
TOLERANCE = 0.6
STAGES = ("train", "sample", "evaluate", "shift")
MODEL = {"hidden": 8, "blocks": 1, "heads": 2, "graph_heads": 2, "cluster_layers": 1, "factors": 4}
TRAIN = {"epochs": 1, "batch": 32, "val_noise": 1}
SAMPLE = {"draws": 2, "steps": 1, "mean_pairs": 1, "memory_mb": 600}
FEW = {"bootstrap": 50, "permutations": 10}


def make(folder: Path, slides: int, clusters: int, features: int, genes: int) -> None:
    """Write a cohort of noise: a slide per patient, one fold, a few gene sets."""
    rng = np.random.default_rng(0)
    names = [f"P{i:05d}" for i in range(slides)]
    ids = {key: names for key in ("slide_id", "patient_id", "sample_id", "unit")}
    parquet.write(pl.DataFrame(ids | {"site": ["A"] * slides}), folder / "slides.parquet")
    symbols = [f"G{i:05d}" for i in range(genes)]
    values = rng.gamma(4, 1, (slides, genes)).astype(np.float32)
    table = pl.DataFrame(values, schema=symbols).insert_column(0, pl.Series("sample_id", names))
    parquet.write(table, folder / "expression.parquet")
    means = rng.normal(size=(slides, clusters, features)).astype(np.float32)
    sizes, color = np.ones((slides, clusters), np.float32), np.zeros((slides, 6), np.float32)
    tiles = np.full(slides, clusters)
    bags = bag_file.Bags(means, sizes, color, tiles, names, "noise", clusters)
    bag_file.save(bags, folder / "bags.safetensors")
    sets = [("GO:1", "one", symbol) for symbol in symbols[: genes // 2]]
    sets += [("GO:2", "two", symbol) for symbol in symbols[genes // 2 :]]
    schema = ["pathway", "name", "gene"]
    parquet.write(pl.DataFrame(sets, schema=schema, orient="row"), folder / "sets.parquet")
    parts = ["train"] * (slides - 60) + ["val"] * 20 + ["cal"] * 20 + ["test"] * 20
    splits = pl.DataFrame({"unit": names, "fold": [0] * slides, "part": parts})
    files.write_text(splits.write_csv(separator="\t"), folder / "splits.tsv")
    files.write_json({"name": "noise"}, folder / "cohort.json")
    files.write_json({}, folder / "guard.json")


def arguments(stage: str, folder: Path) -> list[str]:
    """Return the command line of a stage, as in the rules."""
    given = {name: folder / f"{name}.parquet" for name in ("slides", "expression")}
    given |= {"splits": folder / "splits.tsv", "bags": folder / "bags.safetensors"}
    sets, cohort = {"pathways": folder / "sets.parquet"}, {"cohort": folder / "cohort.json"}
    model, draws, out = folder / "fold-0", folder / "fold-0.zarr", folder / stage
    more: dict[str, object]
    if stage == "train":
        more = {**sets, "guard": folder / "guard.json", "out": model, "fold": 0}
        more |= {"model": json.dumps(MODEL), "settings": json.dumps(TRAIN)}
    elif stage == "sample":
        more = {"model": model, "out": draws, "summary": folder / "summary.parquet", "fold": 0}
        more |= {"settings": json.dumps(SAMPLE)}
        del given["expression"]
    elif stage == "evaluate":
        more = {**sets, **cohort, "draws": draws, "models": model, "out": out, "run": "r"}
        search = model / "search.parquet"
        more |= {"search": search, "settings": json.dumps(FEW | {"top": [20]})}
    else:
        more = {**cohort, "draws": draws, "out": folder / "shift.parquet", "run": "r"}
        more |= {"saved": folder / "familiar", "settings": json.dumps(FEW)}
    return [str(word) for key, value in (given | more).items() for word in (f"--{key}", value)]


def peaks(shape: str, slides: int) -> dict[str, float]:
    """Measure the peak memory of every stage, GB."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), slides, *SHAPES[shape])
        own = ("--folder", folder, "--stage")
        return {s: float(in_own_process(__file__, *own, s)) * 2**20 / costs.GB for s in STAGES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        script = runpy.run_path(str(ROOT / "scripts" / f"{args.stage}.py"))
        script["main"](arguments(args.stage, args.folder))
        print(peak_mb())
        sys.stdout.flush()
        return
    checks = []
    for place, shape in enumerate(SHAPES):
        few, many = (peaks(shape, slides) for slides in SIZES)
        clusters, features, genes = SHAPES[shape]
        one = (clusters * features, genes)[place] * costs.FLOAT / costs.GB
        for stage in STAGES:
            held = (many[stage] - few[stage]) / (SIZES[1] - SIZES[0]) / one
            law = costs.MEMORY_SHARES.get(stage, (0.0, 0.0))[place]
            checks.append(abs(held - law) <= max(TOLERANCE, law / 5))
            line = {"name": f"costs: {shape} that {stage} holds per slide", "value": round(held, 2)}
            line |= {"unit": shape, "yardstick": "costs.HELD", "ratio": None, "target": law}
            print(json.dumps(line | {"ok": checks[-1]}), flush=True)
    finish(checks)


if __name__ == "__main__":
    main()
