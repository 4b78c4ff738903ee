"""Network speed against a loop over pathways (loop.py) and against the machine's limit.

Size: 380 sets with 231,000 memberships of 20,820 genes, h = 256, 7 blocks, bags of 100 x 1024. Both
models have the same weights; ours keeps freed memory as its commands do, the loop has glibc's
usual thresholds. The limit is the rate of one large matrix product, measured before and after
everything that is compared with it; arithmetic counts every membership once, padding not at all.
Peak memory is in memory.py.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import compare, finish, report, seconds
from model_work import (
    BATCH,
    CLUSTERS,
    FEATURES,
    GENES,
    ONE_STEP,
    Work,
    build,
    gene_sets,
    gigaflops,
    many_sets,
    training_step,
)
from numerics import difference, operations
from slide2rna.core import devices
from slide2rna.sampling import draw as sampling_draw

SIDE = {"cpu": 2048, "cuda": 8192}


def usual_memory() -> None:
    """Set the thresholds that glibc's dynamic ones reach with large blocks."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)
    mallopt(devices.M_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(devices.M_TRIM_THRESHOLD, 64 * 2**20)


class Machine:
    """Timing on one device, with its matrix-product rate."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        side = SIDE[device.type]
        self.a = torch.randn(side, side, device=device, dtype=self.dtype)
        self.b = torch.randn(side, side, device=device, dtype=self.dtype)
        self.out = torch.empty_like(self.a)

    def ours(self, work: Callable[[], object]) -> Callable[[], None]:
        """Return the work in the device's precision, with a wait for the device at its end."""
        return self._run(work, devices.keep_freed_memory)

    def theirs(self, work: Callable[[], object]) -> Callable[[], None]:
        return self._run(work, usual_memory)

    def _run(self, work: Callable[[], object], memory: Callable[[], None]) -> Callable[[], None]:
        kind = torch.bfloat16 if self.device.type == "cuda" else None

        def run() -> None:
            memory()
            with devices.autocast(self.device, kind):
                work()
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return run

    def rate(self) -> float:
        """Return the median of five large products, in GFLOP/s."""
        product = self.ours(lambda: torch.mm(self.a, self.b, out=self.out))
        return 2 * len(self.a) ** 3 / float(np.median([seconds(product) for _ in range(5)])) / 1e9

    def share(self, name: str, work: Callable[[], object], gflop: float, target: float) -> bool:
        """Report the arithmetic done per second as a share of the rate."""
        run = self.ours(work)
        run()
        shares, rates = [], [self.rate()]
        for _ in range(5):
            took = seconds(run)
            rates.append(self.rate())
            shares.append(gflop / took / np.mean(rates[-2:]))
        value = float(np.median(shares) * np.median(rates))
        yard = f"one matrix product, {np.median(rates):.0f} GFLOP/s"
        return report(name, value, "GFLOP/s", yard, shares, target)


def main_size(machine: Machine) -> list[bool]:
    """Measure 380 sets, batch 32."""
    sets = gene_sets(380, 231_000, 16_000)
    work = Work(sets, BATCH, machine.device)
    with torch.no_grad():
        apart = max(
            difference(work.forward(), work.loop_forward()),
            difference(work.draws(), work.loop_draws()),
        )
    counts = operations(work.forward), operations(work.loop_forward)
    ok = apart < (1e-5 if machine.device.type == "cpu" else 0.1) and counts[0] < 600
    line = {"name": "model: operations of a forward", "value": counts[0], "unit": "operations"}
    line |= {"yardstick": f"loop, {counts[1]} operations", "ratio": round(counts[1] / counts[0], 1)}
    line |= {"target": 600, "ok": ok, "difference from the loop": apart}
    print(json.dumps(line | {"padding": round(work.ours.layout.waste, 3)}), flush=True)
    results = [ok]

    gpu = machine.device.type == "cuda"
    share, step, draw = (0.35, 20.0, 20.0) if gpu else (0.65, 1.03, 2.5)
    forward = gigaflops(sets, BATCH, BATCH)
    yard, fused = "loop over pathways", "loop over pathways with fused attention, for information"
    ours, theirs = machine.ours, machine.theirs
    results.append(
        compare(
            "model: embedding and heads, forward and backward",
            *(ours(work.embed_and_heads), theirs(work.loop_embed_and_heads), yard, 4.0),
        )
    )
    draw_flop = gigaflops(sets, BATCH, 1, 2)
    unit = BATCH, "draws and steps/s"
    pair = ours(work.draws), theirs(work.loop_draws)
    results.append(
        compare("model: a guided step of 32 draws of one slide", *pair, yard, draw, *unit)
    )
    work.loop.fuse()
    compare("model: a guided step of 32 draws of one slide", *pair, fused, 0, *unit)
    work.loop.fuse(False)
    results += [
        machine.share("model: a guided step of 32 draws, arithmetic", work.draws, draw_flop, share),
        compare(
            "model: posterior mean against 20 guided steps",
            *(ours(work.mean), ours(work.sampler), "our own sampler, same batch", 30.0),
            *(BATCH, "profiles/s"),
        ),
    ]
    mine = training_step(work.ours, work.forward)
    results.append(machine.share("model: training step, arithmetic", mine, 3 * forward, share))
    pair = ours(mine), theirs(training_step(work.loop, work.loop_forward))
    results.append(compare("model: training step", *pair, yard, step, BATCH, "slides/s"))
    work.loop.fuse()
    compare("model: training step", *pair, fused, 0, BATCH, "slides/s")
    return results


def go_bp_size(machine: Machine) -> list[bool]:
    """Measure 3,000 sets, batch 4: shares of the rate of a training step and of a guided step."""
    sets, batch = many_sets(), 4
    model = build(sets, machine.device).eval()
    x, t = torch.randn(batch, GENES), torch.rand(batch)
    bags, sizes = torch.randn(batch, CLUSTERS, FEATURES), torch.ones(batch, CLUSTERS)
    x, t, bags, sizes = (value.to(machine.device) for value in (x, t, bags, sizes))

    def draws() -> None:
        with torch.inference_mode():
            image = model.encode_image(bags[:1], sizes[:1])
        sampling_draw.draw(model, image, x[None], ONE_STEP)

    share = 0.35 if machine.device.type == "cuda" else 0.65
    flop = gigaflops(sets, batch, 1, 2)
    first = machine.share("model: 3,000 sets, a guided step of 4 draws", draws, flop, share)
    step = training_step(model, lambda: model(x, t, model.encode_image(bags, sizes)))
    flop = 3 * gigaflops(sets, batch, batch)
    return [first, machine.share("model: 3,000 sets, training step at batch 4", step, flop, share)]


def on_gpu(device: torch.device) -> list[bool]:
    """Run everything on the GPU too; without a GPU, report the claims that stay open."""
    if device.type == "cuda":
        return []
    if torch.cuda.is_available():
        scripts = (__file__, str(Path(__file__).with_name("memory.py")))
        commands = [[sys.executable, script, "--device", "cuda"] for script in scripts]
        return [subprocess.run(command, check=False).returncode == 0 for command in commands]
    for name, target in (("training step", 20), ("a guided step", 20), ("share of the rate", 0.35)):
        line = {"name": f"model: {name} on a GPU", "value": None, "unit": "", "yardstick": "loop"}
        print(json.dumps(line | {"ratio": None, "target": target, "ok": None}), flush=True)
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    devices.keep_freed_memory()
    machine = Machine(device)
    results = main_size(machine)
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    finish(results + go_bp_size(machine) + on_gpu(device))


if __name__ == "__main__":
    main()
