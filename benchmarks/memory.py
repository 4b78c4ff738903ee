"""Peak memory of a forward and backward at 3,000 sets, batch 2, each in a separate process.

The reference is the loop over pathways (loop.py) with glibc's usual thresholds. Also measured: the
loop with fused attention, ours with recomputed activations, and weights with gradients alone.
"""

from __future__ import annotations

import argparse
import json

import torch
from common import finish, in_own_process, peak_mb
from loop import LoopModel
from model import usual_memory
from model_work import CLUSTERS, FEATURES, GENES, MODEL, many_sets
from slide2rna.core import devices
from slide2rna.flow.velocity import RNAFM

KINDS = ("weights", "ours", "recompute", "loop", "fused")
BATCH = 2


def step(kind: str, device: torch.device) -> None:
    """Run a forward and backward of one kind of network; `weights` only allocates gradients."""
    sets = many_sets()
    x, t = torch.randn(BATCH, GENES, device=device), torch.rand(BATCH, device=device)
    bags = torch.randn(BATCH, CLUSTERS, FEATURES, device=device)
    if kind in ("loop", "fused"):
        usual_memory()
        loop = LoopModel(sets, FEATURES, CLUSTERS, MODEL).fuse(kind == "fused")
        loop.to(device).to_device(device)(x, t, bags).square().mean().backward()
        return
    devices.keep_freed_memory()
    model = RNAFM(sets, FEATURES, CLUSTERS, MODEL).to(device)
    model.recompute = kind == "recompute"
    if kind == "weights":
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        return
    image = model.encode_image(bags, torch.ones(BATCH, CLUSTERS, device=device))
    model(x, t, image).square().mean().backward()


def device_peak_mb(device: torch.device) -> float:
    """Return the peak memory of this process on the device, MB."""
    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_mb()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.kind:
        torch.set_num_threads(2)
        step(args.kind, device)
        print(device_peak_mb(device))
        return
    own = ("--device", args.device, "--kind")
    peaks = {kind: float(in_own_process(__file__, *own, kind)) for kind in KINDS}
    ratio = peaks["loop"] / peaks["ours"]
    line = {"name": "model: 3,000 sets, peak memory at batch 2", "value": round(peaks["ours"])}
    line |= {"unit": "MB", "yardstick": f"loop, {peaks['loop']:.0f} MB"}
    line |= {"ratio": round(ratio, 2), "target": 2.0, "ok": ratio >= 2}
    line |= {"recomputed": round(peaks["recompute"]), "loop, fused": round(peaks["fused"])}
    line |= {"weights, gradients and torch alone": round(peaks["weights"])}
    print(json.dumps(line), flush=True)
    finish([ratio >= 2])


if __name__ == "__main__":
    main()
