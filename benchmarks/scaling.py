"""Time and memory of the network as a law in P, memberships, G, h, batch, draws and steps.

A step's time is its arithmetic at the machine's matrix-product rate and, on top, non-negative
multiples of the activations that it writes and reads and of the weights and gradients that it
moves, and a constant. Memory is weights, gradients, and a multiple of the activations.
Sizes are varied one at a time around a base; sizes that the fit didn't see are predicted.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from common import finish, in_own_process, seconds
from memory import device_peak_mb
from model import Machine
from model_work import CLUSTERS, FEATURES, GENES, MODEL, build, gene_sets, gigaflops
from scipy.optimize import nnls
from slide2rna.core import devices
from slide2rna.flow import solvers
from slide2rna.pathways.membership import Pathways
from torch import Tensor

# Typical error of a prediction that the benchmark allows: machines vary by as much.
TIME_ERROR, MEMORY_ERROR = 0.3, 0.1


@dataclass(frozen=True)
class Size:
    """A network and a batch."""

    sets: int = 200
    memberships: int = 60_000
    hidden: int = 128
    batch: int = 8
    genes: int = GENES

    @property
    def pathways(self) -> Pathways:
        return gene_sets(self.sets, self.memberships, 2000, genes=self.genes)

    @property
    def settings(self) -> dict[str, object]:
        return MODEL | {"hidden": self.hidden}

    def activations(self) -> float:
        """Count the values that a forward keeps for its backward, in 10^9, by layer widths."""
        blocks, ratio = MODEL["blocks"] + 1, MODEL["mlp_ratio"]
        tokens = self.batch * self.sets * self.hidden * blocks * (8 + 2 * ratio)
        cells = self.batch * (2 * self.memberships + 2 * self.genes)
        clusters = (
            self.batch * CLUSTERS * MODEL["cluster_layers"] * (8 * FEATURES + 8 * self.hidden)
        )
        return (tokens + cells + clusters) / 1e9

    def parameters(self) -> float:
        """Count the weights, in 10^9."""
        h, d = self.hidden, FEATURES
        sets = 2 * self.memberships * h + 3 * self.sets * h * h
        clusters = MODEL["cluster_layers"] * (4 * d * d + 8 * d * h) + d * (d + h)
        return (sets + clusters + (MODEL["blocks"] * 18 + 12) * h * h) / 1e9

    def terms(self, rate: float) -> list[float]:
        """Return the columns of the law: seconds of arithmetic, activations, weights, one."""
        arithmetic = gigaflops(self.pathways, self.batch, self.batch, settings=self.settings)
        return [3 * arithmetic / rate, self.activations(), self.parameters(), 1.0]


BASE = Size()
FITTED = [
    BASE,
    *(replace(BASE, sets=p) for p in (60, 500, 900)),
    *(replace(BASE, memberships=m) for m in (20_000, 180_000)),
    *(replace(BASE, hidden=h) for h in (64, 256)),
    *(replace(BASE, batch=b) for b in (2, 24)),
    replace(BASE, genes=10_000, memberships=30_000),
]
UNSEEN = [
    Size(sets=380, memberships=231_000, hidden=256, batch=8),
    Size(sets=1200, memberships=90_000, hidden=192, batch=4),
    Size(sets=300, memberships=100_000, hidden=128, batch=16),
]
WANTED = {
    "380 sets, h 256, batch 32": Size(380, 231_000, 256, 32),
    "380 sets, h 512, batch 32": Size(380, 231_000, 512, 32),
    "3,000 sets, h 256, batch 2": Size(3000, 225_000, 256, 2),
    "3,000 sets, h 256, batch 32": Size(3000, 225_000, 256, 32),
}


def step_of(size: Size, device: torch.device):  # type: ignore[no-untyped-def]
    """Run forward and backward of one batch."""
    model = build(size.pathways, device, size.settings)
    x, t = torch.randn(size.batch, size.genes, device=device), torch.rand(size.batch, device=device)
    bags = torch.randn(size.batch, CLUSTERS, FEATURES, device=device)
    sizes = torch.ones(size.batch, CLUSTERS, device=device)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(x, t, model.encode_image(bags, sizes)).square().mean().backward()

    return step


def measure(size: Size, machine: Machine) -> tuple[float, float]:
    """Return the seconds of a step, and the machine's rate before and after it."""
    run = machine.ours(step_of(size, machine.device))
    run()
    before = machine.rate()
    took = float(np.median([seconds(run) for _ in range(3)]))
    return took, (before + machine.rate()) / 2


def peak(size: Size, device: torch.device) -> float:
    """Return the peak memory of a step in a separate process, MB."""
    own = ("--device", device.type, "--peak", json.dumps(asdict(size)))
    return float(in_own_process(__file__, *own))


def known(size: Size) -> float:
    """Return the size of weights and gradients, MB."""
    return 8 * size.parameters() * 1e9 / 2**20


def fit(columns: np.ndarray, values: np.ndarray, given: np.ndarray | float = 0) -> np.ndarray:
    """Fit non-negative least squares of the relative errors of given + columns @ weights."""
    return nnls(columns / values[:, None], 1 - given / values)[0]


def show(name: str, errors: np.ndarray, allowed: float, **more: object) -> bool:
    middle = float(np.median(np.abs(errors)))
    line = {"name": name, "value": round(middle, 3), "unit": "typical error of unseen sizes"}
    line |= {"yardstick": "measured", "ratio": None, "target": allowed, "ok": middle <= allowed}
    print(json.dumps(line | more), flush=True)
    return middle <= allowed


def step_law(machine: Machine) -> list[bool]:
    times = {size: measure(size, machine) for size in [*FITTED, *UNSEEN]}
    columns = np.array([size.terms(times[size][1]) for size in FITTED])
    measured = np.array([times[size][0] for size in FITTED])
    weights = np.append(1.0, fit(columns[:, 1:], measured, columns[:, 0]))
    unseen = [np.dot(size.terms(times[size][1]), weights) / times[size][0] for size in UNSEEN]
    rate = float(np.median([pair[1] for pair in times.values()]))
    names = ("arithmetic", "s per 1e9 activations", "s per 1e9 weights", "s")
    law = dict(zip(names, weights.round(3), strict=True)) | {"GFLOP/s": round(rate)}
    first = show("scaling: training step", np.array(unseen) - 1, TIME_ERROR, law=law)

    peaks = {size: peak(size, machine.device) for size in [*FITTED, *UNSEEN[:2]]}
    fitted = [size for size in peaks if size in FITTED]
    columns = np.array([[known(size), 4 * size.activations() * 1e9 / 2**20, 1] for size in fitted])
    memory = fit(columns, np.array([peaks[size] for size in fitted]))

    def megabytes(size: Size) -> float:
        return float(np.dot([known(size), 4 * size.activations() * 1e9 / 2**20, 1], memory))

    errors = np.array([megabytes(size) / peaks[size] - 1 for size in UNSEEN[:2]])
    law = dict(zip(("weights and gradients", "activations", "MB"), memory.round(2), strict=True))
    second = show("scaling: memory of a step", errors, MEMORY_ERROR, law=law)
    for name, size in WANTED.items():
        seconds_ = float(np.dot(size.terms(rate), weights))
        line = {"name": f"scaling: {name}, extrapolated by the law", "value": round(seconds_, 2)}
        line |= {"unit": "s", "yardstick": None, "ratio": None, "target": None, "ok": None}
        print(json.dumps(line | {"MB": round(megabytes(size))}), flush=True)
    return [first, second]


def sampling_law(machine: Machine) -> list[bool]:
    """Fit the seconds of draws x steps of one slide: a constant, and a rate per draw and step."""
    size = replace(BASE, hidden=128)
    model = build(size.pathways, machine.device, size.settings).eval()
    bag = torch.randn(1, CLUSTERS, FEATURES, device=machine.device)
    ones = torch.ones(1, CLUSTERS, device=machine.device)

    def seconds_of(draws: int, steps: int) -> float:
        x0 = torch.randn(draws, size.genes, device=machine.device)

        @torch.inference_mode()
        def sample() -> Tensor:
            image = model.encode_image(bag, ones)
            return solvers.solve(lambda x, t: model(x, t, image, 2.0), x0, steps)

        run = machine.ours(sample)
        run()
        return float(np.median([seconds(run) for _ in range(3)]))

    grid = [(8, 2), (8, 8), (32, 2), (32, 6), (64, 4)]
    columns = np.array([[draws * steps, steps, 1.0] for draws, steps in grid])
    weights = fit(columns, np.array([seconds_of(*pair) for pair in grid]))
    unseen = [(16, 12), (100, 3)]
    errors = [
        np.dot([draws * steps, steps, 1.0], weights) / seconds_of(draws, steps) - 1
        for draws, steps in unseen
    ]
    law = dict(zip(("s per draw and step", "s per step", "s"), weights.round(5), strict=True))
    return [show("scaling: guided sampling, 200 sets", np.array(errors), TIME_ERROR, law=law)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    if args.peak:
        devices.keep_freed_memory()
        Machine(device).ours(step_of(Size(**json.loads(args.peak)), device))()
        print(device_peak_mb(device))
        return
    machine = Machine(device)
    finish(step_law(machine) + sampling_law(machine))


if __name__ == "__main__":
    main()
