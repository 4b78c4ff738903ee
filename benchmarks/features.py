"""Speed of lite0 features against a plain loop over the same slide, on the same cores.

The plain loop is what a short script does: read a tile, convert it, run timm's network (the same
weights, as the library ships it) on that one tile. It gets the thread count that suits it best.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = str(os.environ.get("BENCH_THREADS", "2"))

import tempfile
from pathlib import Path

import common
import numpy as np
import torch
from slide2rna.core import config
from slide2rna.features import encode, lite0, registry
from slide2rna.features.torchvision_fix import ensure_torchvision
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tiles import tile_slide
from slide_factory import picture, write_slide

ensure_torchvision()
import timm  # noqa: E402

THREADS = int(os.environ["OMP_NUM_THREADS"])
TILES = 120


def main() -> None:
    settings = config.defaults("tiles", max_tiles=TILES)
    encoder = registry.load(config.defaults("features"), "cpu", THREADS)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    state = torch.load(lite0.weights_path(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.tile(picture(2048, 2048), (3, 3, 1))
        path = write_slide(Path(folder) / "slide.svs", pixels)
        del pixels
        with open_slide(path) as slide:
            table = tile_slide(slide, settings, 1, "slide").table

        def ours() -> np.ndarray:
            with open_slide(path) as slide:
                return encode.extract(slide, table, encoder, settings, THREADS).features

        def loop() -> np.ndarray:
            found = []
            with open_slide(path) as slide, torch.inference_mode():
                for x, y, level, size in table.select("x", "y", "level", "size").iter_rows():
                    tile = np.array(slide.read(x, y, level, size, size))
                    batch = torch.from_numpy(tile)[None].permute(0, 3, 1, 2).float()
                    stem = network.bn1(network.conv_stem((batch - 127) / 128))
                    planes = network.blocks[:5](stem).flatten(2)
                    pooled = [planes.mean(2), planes.std(2, unbiased=False)]
                    found.append(torch.cat(pooled, 1)[0].numpy())
            return np.stack(found)

        times = {}
        for threads in range(1, THREADS + 1):  # the loop gets the faster of the two
            torch.set_num_threads(threads)
            loop()
            times[threads] = common.seconds(loop)
        torch.set_num_threads(min(times, key=lambda threads: times[threads]))
        difference = float(np.abs(ours()[:, :224] - loop()).max())
        if difference > 1e-4:
            raise SystemExit(f"the two ways differ by {difference}, so the comparison is not fair")
        result = common.compare(
            f"features lite0, {THREADS} threads",
            ours,
            loop,
            f"plain loop, timm's network, same cores ({torch.get_num_threads()} threads)",
            3,
            work=table.height,
            unit="tiles/s",
        )
    common.finish([result])


if __name__ == "__main__":
    main()
