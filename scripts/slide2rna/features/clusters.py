"""Clusters of a slide's tiles: a bag of k means with their sizes (SPEC item 6).

FAISS runs k-means, on a GPU if its build supports one. Means are ordered by decreasing cluster
size. A slide with fewer distinct tiles than k gets fewer clusters, and the rest of its bag is
padding of size 0.
"""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import polars as pl

from slide2rna.core.errors import SlideError, StageError, list_names
from slide2rna.core.log import log, progress
from slide2rna.core.seeds import seed_for
from slide2rna.core.settings import BagsSettings, FeaturesSettings
from slide2rna.features.bag_file import Bags, save
from slide2rna.features.feature_file import Features, read
from slide2rna.slides import failures
from slide2rna.storage import parquet

ALL_POINTS = 1 << 30
SKETCH_DIM, SEED_ROWS = 64, 20  # rows per cluster
FULL_ITERATIONS = 5  # the last iterations, on all dimensions of a tile


def backend() -> str:
    """Return the clustering backend; bags of two backends agree in inertia, not bit for bit."""
    return f"faiss-{'gpu' if faiss.get_num_gpus() else 'cpu'} {faiss.__version__}"


def cluster(
    features: np.ndarray, k: int, iterations: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster one slide's tiles by k-means.

    Seeding and all but the last five iterations run on a random projection of the tiles to 64
    dimensions: a tenth of the work, for an inertia that differs by less than a percent.

    The returned means are over the tiles assigned to each cluster, half an iteration past the
    centroids of the last iteration; empty clusters are dropped.

    Parameters
    ----------
    features : ndarray of float32, shape (n, d)
    k : int
    iterations : int
        Lloyd iterations.
    seed : int

    Returns
    -------
    means : ndarray of float32, shape (c, d), c <= k
    sizes : ndarray of int64, shape (c,)
        Decreasing; ties are in the order of the clusters' first tiles.
    """
    points = np.ascontiguousarray(features, np.float32)
    sketch = _sketch(points, seed)
    if not np.isfinite(sketch).all():  # a projection of NaN is NaN, and quicker to check
        raise ValueError("features aren't finite")
    labels = _distinct_tiles(points, k)
    if labels is None:
        start = _seed_rows(sketch, k, seed)
        if sketch is points or iterations <= FULL_ITERATIONS:
            index = _lloyd(points, points[start], iterations)
        else:
            sketch_index = _lloyd(sketch, sketch[start], iterations - FULL_ITERATIONS)
            sketch_labels = sketch_index.search(sketch, 1)[1].ravel()
            means = points[start]
            used, centres, _ = _cluster_means(points, sketch_labels)
            means[used] = centres
            index = _lloyd(points, means, FULL_ITERATIONS)
        labels = index.search(points, 1)[1].ravel()
    used, means, sizes = _cluster_means(points, labels)
    first = np.full(labels.max() + 1, len(points))
    np.minimum.at(first, labels, np.arange(len(points)))
    ranks = np.lexsort((first[used], -sizes))
    return means[ranks], sizes[ranks]


def bag(features: np.ndarray, k: int, iterations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a slide's bag, by `cluster`: means (k, d), sizes (k,), float32; size 0 is padding."""
    mean, size = cluster(features, k, iterations, seed)
    means = np.zeros((k, features.shape[1]), np.float32)
    sizes = np.zeros(k, np.float32)
    means[: len(mean)], sizes[: len(size)] = mean, size
    return means, sizes


def _cluster_means(
    points: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the labels in use, and the mean and number of each label's points."""
    order = np.argsort(labels, kind="stable")
    used, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    means = np.stack([points[part].mean(0) for part in np.split(order, starts[1:])])
    return used, means, sizes


def _lloyd(points: np.ndarray, start: np.ndarray, iterations: int) -> faiss.Index:
    """Run Lloyd's iterations from the means `start`; return an index of the centroids."""
    kmeans = faiss.Kmeans(
        points.shape[1],
        len(start),
        niter=iterations,
        min_points_per_centroid=1,
        max_points_per_centroid=ALL_POINTS // len(start),
        gpu=faiss.get_num_gpus() > 0,
    )
    kmeans.train(points, init_centroids=np.ascontiguousarray(start))
    return kmeans.index


def _sketch(points: np.ndarray, seed: int) -> np.ndarray:
    """Return a random projection to 64 dimensions that keeps distances (Johnson-Lindenstrauss)."""
    if points.shape[1] <= SKETCH_DIM:
        return points
    rng = np.random.default_rng(seed)
    return points @ rng.standard_normal((points.shape[1], SKETCH_DIM), dtype=np.float32)


def _seed_rows(points: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the rows to start from, by greedy k-means++ (Arthur and Vassilvitskii 2007).

    A random start, FAISS's default, ends 5 to 40 % worse if tiles fall into clear groups.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(len(points))
    if len(points) > SEED_ROWS * k:
        rows = np.sort(rng.choice(rows, SEED_ROWS * k, replace=False))
        points = points[rows]
    square = (points**2).sum(1)
    tries = 2 + int(np.log(k))
    chosen = np.empty(k, np.int64)
    nearest = np.full(len(rows), np.inf, np.float32)
    candidates = rng.integers(len(rows), size=1)
    for i in range(k):
        distance = square + square[candidates, None] - 2 * points[candidates] @ points.T
        np.clip(distance, 0, nearest, out=distance)
        best = int(distance.sum(1, dtype=np.float64).argmin())
        chosen[i], nearest = candidates[best], distance[best]
        edges = np.cumsum(nearest, dtype=np.float64)
        picks = np.searchsorted(edges, rng.random(tries) * edges[-1], side="right")
        candidates = np.minimum(picks, len(rows) - 1)  # all distances may be 0
    return rows[chosen]


def _distinct_tiles(points: np.ndarray, k: int) -> np.ndarray | None:
    """Return labels of the distinct tiles if they are at most k, so that each is a cluster."""
    seen: dict[bytes, int] = {}
    labels = np.empty(len(points), np.int64)
    for i, row in enumerate(points):
        labels[i] = seen.setdefault(row.tobytes(), len(seen))
        if len(seen) > k:
            return None
    return labels


def inertia(features: np.ndarray, means: np.ndarray) -> float:
    """Return the sum of squared distances of tiles (n, d) to the nearest mean (c, d)."""
    total = 0.0
    for block in np.array_split(features.astype(np.float64), max(1, len(features) // 512)):
        square = (block**2).sum(1)[:, None] - 2 * block @ means.T + (means**2.0).sum(1)
        total += float(np.maximum(square.min(1), 0).sum())
    return total


def usable_slides(folder: Path, manifests: list[Path], max_failed: int) -> pl.DataFrame:
    """Return the rows of the feature shards whose slides have features, by slide.

    Raises
    ------
    StageError
        More than `max_failed` slides failed so far, none is left, or feature lengths differ.
    """
    table = pl.concat([parquet.read(path) for path in manifests]).sort("slide_id")
    duplicates = table.filter(pl.col("slide_id").is_duplicated())["slide_id"].unique().sort()
    if len(duplicates):
        raise StageError(
            folder, f"slides in two shards: {list_names(duplicates.to_list(), 10)}", "rerun it"
        )
    failed = table.filter(pl.col("status") != "ok")
    failures.check_failures(folder, failed["slide_id"].to_list(), failed["reason"], max_failed)
    table = table.filter(pl.col("status") == "ok")
    if not table.height:
        raise StageError(folder, "no slide is left", "see the reasons in the features manifests")
    if table["dim"].n_unique() > 1:
        raise StageError(folder, f"features of lengths {sorted(set(table['dim']))}", "rerun it")
    return table


def slide_features(path: Path, level: str, dim: int) -> Features:
    """Read a slide's features, which must have `dim` numbers per tile; else raise StageError."""
    try:
        slide = read(path, level)
    except SlideError as error:  # the file was complete when its manifest was written
        raise StageError(error.where, error.cause, "rerun the stage features") from error
    if slide.features.shape[1] != dim:
        raise StageError(path, f"not {dim} numbers per tile", "rerun the stage features")
    return slide


def cluster_slides(
    folder: Path,
    manifests: list[Path],
    out: Path,
    settings: BagsSettings,
    feature_settings: FeaturesSettings,
    max_failed: int,
    seed: int,
    threads: int,
) -> Bags:
    """Cluster every slide of the feature shards and write the cohort's bags.

    With one vector per slide (`features.level: slide`), it is a bag of one cluster of one tile,
    whatever `bags.k` is.

    Raises
    ------
    StageError
        More than `max_failed` slides failed so far, none is left, or feature lengths differ.
    """
    table = usable_slides(folder, manifests, max_failed)
    faiss.omp_set_num_threads(threads)
    level, count, dim = feature_settings["level"], table.height, int(table["dim"][0])
    k = settings["k"] if level == "tile" else 1
    means = np.zeros((count, k, dim), np.float32)
    sizes = np.zeros((count, k), np.float32)
    color = np.full((count, 6), np.nan, np.float32)
    n_tiles = np.zeros(count, np.int64)
    ids = table["slide_id"].to_list()
    for i, name in enumerate(progress(ids, "bags")):
        slide = slide_features(folder / f"{name}.h5", level, dim)
        if level == "slide":
            means[i], sizes[i] = slide.features, 1
        else:
            slide_seed = seed_for(seed, "bags", name)
            means[i], sizes[i] = bag(slide.features, k, settings["iterations"], slide_seed)
        n_tiles[i] = len(slide.features)
        if slide.color is not None:
            color[i] = slide.color.mean(0, dtype=np.float64)
    absent = np.isnan(means)
    if absent.any():
        log.warning(
            "%d values of %d features are missing in %d slides; the train median replaces them",
            *(absent.sum(), absent.any(axis=(0, 1)).sum(), absent.any(axis=(1, 2)).sum()),
        )
    scale, missing = feature_settings["scale"], level == "slide"
    bags = Bags(means, sizes, color, n_tiles, ids, folder.name, k, scale, missing)
    save(bags, out, backend())
    return bags
