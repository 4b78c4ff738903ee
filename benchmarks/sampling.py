"""Peak memory of sampling at full TCGA size, and fixed steps against adaptive ones.

Memory: the command scripts/sample.py in a separate process, with 20,820 genes, 380 sets with
231,000 memberships, h = 512, 7 blocks, 100 draws, and the bags of all 1,130 slides (100 x 1024). A
slice of two slides has the full network; what a further slide adds doesn't depend on the network,
so it is measured with a small one, over many slides, and the sum is stated for 1,130. Steps take
time and no memory. The yardstick is the promise: 3 GB.

Solvers: evaluations that an adaptive pair of order 5(4) (Dormand-Prince, scipy's RK45) needs to
come as close to the exact flow of laws that aren't Gaussian as 20 evaluations of ours do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import common
import numpy as np
import polars as pl
import torch
import zarr
from model_work import CLUSTERS, FEATURES, GENES, gene_sets
from normal_mixtures import LAWS, Mixture, quantile_grid
from scipy import integrate
from slide2rna.core import config, files
from slide2rna.features import bag_file
from slide2rna.flow import path as flow_path
from slide2rna.flow.solvers import SOLVERS, solve
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.sampling import draw_summary
from slide2rna.storage import parquet

SLIDES, DRAWS, STEPS, MEGABYTES = 1130, 100, 20, 3000
FULL = {"hidden": 512, "blocks": 7}
SMALL = {"hidden": 16, "blocks": 1, "heads": 2, "graph_heads": 2, "cluster_layers": 0}
# Folds of the simulated cohort, by their number of test slides; one more slide is val.
SLICES = (2, 20, 300)
MANY_DRAWS = 2000
TOLERANCES = np.geomspace(1e-1, 1e-5, 25)


def make(folder: Path) -> None:
    """Write bags, slides and splits of a cohort, and two untrained models."""
    rng = np.random.default_rng(0)
    names = [f"S{i:04d}" for i in range(SLIDES)]
    means = rng.standard_normal((SLIDES, CLUSTERS, FEATURES), dtype=np.float32)
    sizes = np.full((SLIDES, CLUSTERS), 40, np.float32)
    color, tiles = np.zeros((SLIDES, 6), np.float32), np.full(SLIDES, 4000)
    found = bag_file.Bags(means, sizes, color, tiles, names, "uni", CLUSTERS)
    bag_file.save(found, folder / "bags.safetensors")
    ids = {key: names for key in ("slide_id", "sample_id", "unit")}
    parquet.write(pl.DataFrame(ids), folder / "slides.parquet")
    rows = [
        (name, fold, "val" if i == 0 else "test" if i <= count else "train")
        for fold, count in enumerate(SLICES)
        for i, name in enumerate(names)
    ]
    table = pl.DataFrame(rows, schema=["unit", "fold", "part"], orient="row")
    files.write_text(table.write_csv(separator="\t"), folder / "splits.tsv")
    sets = gene_sets(380, 231_000, 5000)
    for name, changes in (("full", FULL), ("small", SMALL)):
        settings = config.defaults("model", **changes)
        torch.manual_seed(0)
        model = RNAFM(sets, FEATURES, CLUSTERS, settings)
        meta = {"model": "flow", "genes": [f"GENE{i:05d}" for i in range(GENES)]}
        meta |= {"features": FEATURES, "clusters": CLUSTERS, "interpolant": "linear"}
        checkpoint.save_model(folder / name, model, meta | {"settings": {"model": settings}})


# Imports nothing except what the command imports.
WORK = """
import os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
runpy.run_path(sys.argv[1])["main"](sys.argv[2:])
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) / 2**10)
"""


def sampled(folder: Path, model: str, fold: int, **changes: object) -> dict[str, float]:
    """Sample a slice with the command itself: its peak memory, seconds per slide, MB on disk."""
    settings = json.dumps({"draws": DRAWS} | changes)
    with tempfile.TemporaryDirectory() as out:
        arguments = [
            *("--model", str(folder / model), "--fold", str(fold), "--threads", "2"),
            *("--bags", str(folder / "bags.safetensors"), "--device", "cpu"),
            *("--slides", str(folder / "slides.parquet")),
            *("--splits", str(folder / "splits.tsv"), "--settings", settings),
            *("--out", f"{out}/draws.zarr", "--summary", f"{out}/draws.parquet"),
        ]
        script = str(common.ROOT / "scripts" / "sample.py")
        mb = float(common.in_own_process("-c", WORK, script, *arguments))
        seconds = float(str(zarr.open_group(f"{out}/draws.zarr", mode="r").attrs["draw_seconds"]))
        disk = sum(path.stat().st_size for path in Path(out).rglob("*") if path.is_file())
    return {"mb": mb, "seconds": seconds, "disk_mb": disk / 2**20}


def memory() -> bool:
    """Measure the slice's peak, and add that of the other slides."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.in_own_process(__file__, "--make", name)
        weights = (folder / "full/model.safetensors").stat().st_size / 2**20
        full = sampled(folder, "full", 0, steps=2)
        # A budget that binds, as it does for the full network.
        quick = {"steps": 1, "draws": 10, "mean_pairs": 1, "memory_mb": 700}
        few, many = (sampled(folder, "small", fold, **quick) for fold in (1, 2))
        one = sampled(folder, "small", 0, steps=1, keep="summary")
        long = sampled(folder, "small", 0, steps=1, keep="summary", draws=MANY_DRAWS)
    each = (many["mb"] - few["mb"]) / (SLICES[2] - SLICES[1])
    peak = full["mb"] + max(0.0, each) * (SLIDES - SLICES[0])
    hours = full["seconds"] * STEPS / 2 * SLIDES / 3600
    line = {"name": f"sampling: {GENES:,} genes, h 512, {SLIDES:,} slides x {DRAWS} draws, peak"}
    line |= {"value": round(peak), "unit": "MB", "yardstick": f"at most {MEGABYTES} MB"}
    line |= {"ratio": round(MEGABYTES / peak, 2), "target": 1.0, "ok": peak <= MEGABYTES}
    line |= {f"measured, {SLICES[0]} slides": round(full["mb"]), "weights": round(weights)}
    line |= {"MB per further slide": round(each, 3), "hours here at 20 steps": round(hours, 1)}
    print(json.dumps(line), flush=True)
    # Draws of more than a chunk, of which the summary alone is kept.
    more = long["mb"] - one["mb"]
    counted = draw_summary.BYTES_PER_GENE * GENES / 2**20
    extra = {"name": f"sampling: {MANY_DRAWS:,} draws, summary alone, memory over {DRAWS} draws"}
    extra |= {"value": round(more), "unit": "MB", "yardstick": f"counted as {counted:.0f} MB"}
    extra |= {"ratio": round(counted / max(more, 1), 2), "target": 0.9, "ok": more <= counted / 0.9}
    disks = {"draws": full["disk_mb"], "summary": one["disk_mb"]}
    extra |= {f"MB on disk, {name}": round(value, 1) for name, value in disks.items()}
    print(json.dumps(extra), flush=True)
    return bool(line["ok"]) and bool(extra["ok"])


def adaptive(law: Mixture, tolerance: float) -> tuple[float, int]:
    """Return the error of RK45 at this tolerance in units of the law's sd, and its evaluations."""
    x0, path = quantile_grid(), flow_path.Path()

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        time = torch.tensor(t, dtype=torch.float64)
        return law.velocity(torch.from_numpy(x)[:, None], time, path).numpy()[:, 0]

    found = integrate.solve_ivp(slope, (0, 1), x0[:, 0].numpy(), rtol=tolerance, atol=tolerance)
    return error(law, torch.from_numpy(found.y[:, -1:])), int(found.nfev)


def error(law: Mixture, ends: torch.Tensor) -> float:
    """Return the root mean square distance from the exact end, in units of the law's sd."""
    return float((ends - law.carried(quantile_grid())).square().mean().sqrt()) / law.sd


def solvers() -> bool:
    """Count the evaluations of RK45 for the error of 20 evaluations of each solver."""
    ok, path = [], flow_path.Path()
    for name, law in LAWS.items():
        found = [adaptive(law, tolerance) for tolerance in TOLERANCES]
        for solver, each in SOLVERS.items():
            sd = torch.tensor([law.sd], dtype=torch.float64)
            field = lambda x, t, law=law: law.velocity(x, t, path)  # noqa: E731
            ends = solve(field, quantile_grid(), STEPS // each, solver, path, sd)
            reached = error(law, ends)
            needed = min(calls for far, calls in found if far <= reached)
            ratio = needed / STEPS
            line = {"name": f"solvers: {solver}, {STEPS} evaluations, law {name}"}
            line |= {"value": round(reached, 5), "unit": "sd of the law", "ratio": round(ratio, 2)}
            line |= {"yardstick": f"RK45, {needed} evaluations for this error", "target": 1.0}
            # Euler is there to show what the paper's solver costs; nothing is promised for it.
            line["ok"] = None if solver == "euler" else ratio >= 1
            ok.append(line["ok"] is not False)
            print(json.dumps(line), flush=True)
    return all(ok)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.make)
        print("made")
    else:
        common.finish([solvers(), memory()])


if __name__ == "__main__":
    main()
