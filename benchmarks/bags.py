"""Clustering 4,000 tiles into 100: FAISS bags against scikit-learn, one thread each."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import common  # noqa: E402
import faiss  # noqa: E402
import numpy as np  # noqa: E402
from sklearn.cluster import KMeans  # noqa: E402
from slide2rna.features import clusters  # noqa: E402

TILES, K, ITERATIONS = 4000, 100, 25


def latent(d: int) -> np.ndarray:
    """Draw tiles like an encoder's: a few directions of morphology, and noise."""
    rng = np.random.default_rng(0)
    morphology = rng.standard_normal((TILES, 20)) @ rng.standard_normal((20, d))
    return (morphology + 0.5 * rng.standard_normal((TILES, d))).astype(np.float32)


def main() -> None:
    faiss.omp_set_num_threads(1)
    results = []
    noise = np.random.default_rng(0).standard_normal((TILES, 1024)).astype(np.float32)
    for kind, points in (("noise 1024", noise), ("latent 1024", latent(1024))):

        def ours(points: np.ndarray = points) -> None:
            clusters.cluster(points, K, ITERATIONS, 1)

        def default(points: np.ndarray = points) -> KMeans:
            return KMeans(K, n_init=1, random_state=0).fit(points)

        def plain(points: np.ndarray = points) -> None:
            KMeans(K, n_init=1, init="random", max_iter=ITERATIONS, tol=0, random_state=0).fit(
                points
            )

        share = [
            default().inertia_
            / clusters.inertia(points, clusters.cluster(points, K, ITERATIONS, seed)[0])
            for seed in range(5)
        ]
        results += [
            common.report(
                f"bags inertia, {kind}",
                1 / float(np.median(share)),
                "of scikit-learn's",
                "KMeans default, inverse ratio of inertia",
                share,
                0.99,
            ),
            common.compare(
                f"bags, {kind}", ours, default, "KMeans default (k-means++, n_init=1)", 10, 1
            ),
            common.compare(
                f"bags, {kind}", ours, plain, "KMeans init=random, same iterations", 0.8, 1
            ),
        ]
    common.finish(results)


if __name__ == "__main__":
    main()
