"""Bags: k-means against scikit-learn and closed forms, padding, failures, and the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numerics import blobs
from sklearn.cluster import KMeans
from slide2rna.core import config
from slide2rna.core.errors import StageError
from slide2rna.features import bag_file, clusters, extract, feature_file
from slide2rna.features.bag_file import Bags


def test_inertia_is_within_one_percent_of_sklearn() -> None:
    points = blobs(1500, 64, 60)
    means, sizes = clusters.cluster(points, 50, 25, 1)
    ours = clusters.inertia(points, means)
    theirs = KMeans(50, n_init=1, max_iter=25, random_state=0).fit(points)
    assert ours <= theirs.inertia_ * 1.01
    assert sizes.sum() == 1500


def test_inertia_is_the_plain_sum() -> None:
    points, means = blobs(700, 5, 3), blobs(4, 5, 2, seed=1)
    plain = sum(
        min(((p - m) ** 2).sum() for m in means.astype(float)) for p in points.astype(float)
    )
    assert clusters.inertia(points, means) == pytest.approx(plain, rel=1e-6)


def test_means_are_those_of_their_tiles() -> None:
    """Two far groups: their means and sizes are known."""
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 1, (30, 8)), rng.normal(100, 1, (70, 8))
    points = np.concatenate([small, large]).astype(np.float32)
    means, sizes = clusters.cluster(points, 2, 10, 3)
    assert sizes.tolist() == [70, 30]
    np.testing.assert_allclose(means, [points[30:].mean(0), points[:30].mean(0)], rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(-3, 3)),
    st.integers(1, 12),
)
def test_any_tiles_give_a_whole_bag(points: np.ndarray, k: int) -> None:
    means, sizes = clusters.cluster(points, k, 10, 7)
    assert len(means) == len(sizes) <= min(k, len(points))
    assert sizes.sum() == len(points)
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()
    total = (means.astype(float) * sizes[:, None]).sum(0)
    np.testing.assert_allclose(total, points.sum(0, dtype=float), atol=1e-3)
    again = clusters.cluster(points, k, 10, 7)
    np.testing.assert_array_equal(means, again[0])


def test_no_more_different_tiles_than_k() -> None:
    points = np.repeat(np.arange(4, dtype=np.float32), [2, 5, 5, 1])[:, None]
    means, sizes = clusters.cluster(points, 100, 25, 1)
    assert means.ravel().tolist() == [1, 2, 0, 3]  # the tie is in the order of the tiles
    assert sizes.tolist() == [5, 5, 2, 1]


def test_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        clusters.cluster(np.array([[np.nan, 1], [2, 3]], np.float32), 1, 5, 1)


def folder(path: Path, counts: dict[str, int], dim: int = 6, color: bool = True) -> Path:
    """Feature files and a manifest; a slide of 0 tiles has failed."""
    rows = []
    for i, (name, n) in enumerate(counts.items()):
        if n == 0:
            rows.append({"slide_id": name, "status": "failed", "reason": f"{name} is broken"})
            continue
        made = blobs(n, dim, 5, seed=i)
        tones = np.full((n, 6), i / 10, np.float32) if color else None
        found = feature_file.Features(made, np.zeros((n, 2), np.int64), tones)
        feature_file.write(path / f"{name}.h5", found, {"encoder": "x"})
        rows.append({"slide_id": name, "status": "ok", "n_tiles": n, "n_rejected": 0, "dim": dim})
    path.mkdir(exist_ok=True)
    pl.DataFrame(rows, schema=extract.MANIFEST_SCHEMA).write_parquet(path / "shard-0.parquet")
    return path


def run(path: Path, max_failed: int = 0, seed: int = 1, threads: int = 1, k: int = 8) -> Bags:
    manifests = sorted(path.glob("shard-*.parquet"))
    out = path.parent / "bags.safetensors"
    return clusters.cluster_slides(
        path,
        manifests,
        out,
        config.defaults("bags", k=k),
        config.defaults("features"),
        max_failed,
        seed,
        threads,
    )


def test_cohort_and_file(tmp_path: Path) -> None:
    path = folder(tmp_path / "lite0", {"c": 40, "a": 5, "b": 30})
    made = run(path)
    assert made.slide_ids == ["a", "b", "c"]
    assert (made.means.shape, made.sizes.shape) == ((3, 8, 6), (3, 8))
    assert made.n_tiles.tolist() == [5, 30, 40]
    assert made.sizes.sum(1).tolist() == [5, 30, 40]
    assert not made.sizes[0, 5:].any()
    assert not made.means[0, 5:].any()
    np.testing.assert_allclose(made.color[:, 0], [0.1, 0.2, 0.0], atol=1e-7)
    read = bag_file.load(tmp_path / "bags.safetensors")
    for name in ("means", "sizes", "color", "n_tiles"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
        assert getattr(read, name).dtype == getattr(made, name).dtype
    assert (read.slide_ids, read.encoder, read.k) == (["a", "b", "c"], "lite0", 8)


def test_same_inputs_same_bags(tmp_path: Path) -> None:
    path = folder(tmp_path / "lite0", {"a": 300, "b": 200})
    first = run(path)
    bytes_first = (tmp_path / "bags.safetensors").read_bytes()
    run(path, threads=2)
    assert (tmp_path / "bags.safetensors").read_bytes() == bytes_first
    assert not np.array_equal(run(path, seed=2).means, first.means)
    alone = folder(tmp_path / "alone", {"x": 10, "b": 200})  # b is second here, too: same data
    np.testing.assert_array_equal(run(alone).means[0], first.means[1])


def test_color_is_optional(tmp_path: Path) -> None:
    made = run(folder(tmp_path / "files", {"a": 20}, color=False))
    assert np.isnan(made.color).all()


def test_failed_slides_stop_it_beyond_the_limit(tmp_path: Path) -> None:
    path = folder(tmp_path / "f", {"a": 20, "bad": 0, "worse": 0})
    with pytest.raises(StageError, match=r"2 slides.*\(bad, worse\)"):
        run(path, max_failed=1)
    assert not (tmp_path / "bags.safetensors").exists()
    assert run(path, max_failed=2).slide_ids == ["a"]


def test_empty_or_inconsistent_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no slide"):
        run(folder(tmp_path / "n", {"a": 0}), max_failed=9)
    path = folder(tmp_path / "d", {"a": 20})
    folder(path, {"b": 20}, dim=7)
    (path / "shard-0.parquet").rename(path / "shard-1.parquet")
    folder(path, {"a": 20})
    with pytest.raises(StageError, match="length"):
        run(path)
    (path / "shard-0.parquet").unlink()
    (path / "b.h5").unlink()
    with pytest.raises(StageError, match=r"b\.h5: no such file"):
        run(path)
    twice = folder(tmp_path / "t", {"a": 20})
    (twice / "shard-1.parquet").write_bytes((twice / "shard-0.parquet").read_bytes())
    with pytest.raises(StageError, match=r"two shards.* a"):
        run(twice)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None])
def test_not_a_bags_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StageError, match="bags file"):
        bag_file.load(path)
