"""Resampled bags: each slide's tiles drawn and clustered several times, for training only.

tRNAsformer trains on many bags of a slide, each of random tiles (Alsaafin et al. 2023,
doi:10.1038/s42003-023-04583-x). Here a bag is of a random share of the tiles without replacement.
A mean over half of them varies between bags as much as it would between two sections of as many
tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from slide2rna.core.errors import StageError
from slide2rna.core.log import log, progress
from slide2rna.core.seeds import rng_for, seed_for
from slide2rna.core.settings import BagsSettings
from slide2rna.features import clusters, resample_file
from slide2rna.features.resample_file import Bag, ResampleFacts


def draw_tiles(count: int, share: float, seed: int, name: str, number: int) -> NDArray[np.int64]:
    """Draw distinct tiles of a slide, a share of them rounded up, sorted.

    The stream is that of the slide's name and the bag's number.
    """
    rng = rng_for(seed, "resample", name, number)
    return np.sort(rng.choice(count, int(np.ceil(share * count)), replace=False))


def resampled_bags(
    features: NDArray[np.float32], settings: BagsSettings, seed: int, name: str
) -> list[Bag] | None:
    """Return the bags of random shares of a slide's tiles (n, d).

    None if a share has at most k tiles: its bag would be the tiles themselves.
    """
    count, share, k = len(features), settings["resample_share"], settings["k"]
    if np.ceil(share * count) <= k:
        return None
    bags = []
    for number in range(settings["resamples"]):
        tiles = features[draw_tiles(count, share, seed, name, number)]
        own_seed = seed_for(seed, "resampled bags", name, number)
        bags.append(clusters.bag(tiles, k, settings["iterations"], own_seed))
    return bags


def resample_slides(
    folder: Path,
    manifests: list[Path],
    out: Path,
    settings: BagsSettings,
    max_failed: int,
    seed: int,
    threads: int,
) -> int:
    """Write the resampled bags of every slide of the feature shards; return how many have any.

    A slide with too few tiles keeps its whole bag in all its rows, and the log says how many do.

    Raises
    ------
    StageError
        As `clusters.cluster_slides`, or no slide has enough tiles.
    """
    table = clusters.usable_slides(folder, manifests, max_failed)
    faiss.omp_set_num_threads(threads)
    k, number, dim = settings["k"], settings["resamples"], int(table["dim"][0])
    names = table["slide_id"].to_list()
    kept: list[str] = []

    def slides() -> Iterator[list[Bag]]:
        for name in progress(names, "resample"):
            features = clusters.slide_features(folder / f"{name}.h5", "tile", dim).features
            bags = resampled_bags(features, settings, seed, name)
            if bags is None:
                kept.append(name)
                own_seed = seed_for(seed, "bags", name)
                bags = [clusters.bag(features, k, settings["iterations"], own_seed)] * number
            yield bags
        if len(kept) == len(names):
            cause = f"no slide has more than {k} tiles in a share of {settings['resample_share']}"
            raise StageError(folder, cause, "lower bags.k, or set bags.resamples: 0")

    facts = ResampleFacts(
        names, number, settings["resample_share"], (k, dim), folder.name, clusters.backend()
    )
    resample_file.save(facts, slides(), out)
    if kept:
        log.warning(
            "%d of %d slides keep their whole bag: a share of their tiles has at most k = %d",
            *(len(kept), len(names), k),
        )
    return len(names) - len(kept)
