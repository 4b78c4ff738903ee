"""Feature scales: quantile maps, missing values, and one vector per slide through the stages."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from slide2rna.core import config
from slide2rna.core.errors import SlideError, StageError
from slide2rna.data import statistics
from slide2rna.features import bag_file, clusters, feature_file, provided
from slide2rna.flow import quantile_map
from slide2rna.flow.feature_scale import Scale
from slide2rna.models import checkpoint
from slide2rna.models.regressor import Regressor

SLIDES = ["A", "B", "C", "D"]


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_scores_of_the_train_values_are_those_of_their_ranks() -> None:
    values = np.random.default_rng(0).lognormal(size=(101, 3))
    knots = torch.from_numpy(quantile_map.quantile_knots(values))
    scores = quantile_map.to_scores(torch.from_numpy(values), knots).numpy()
    expected = stats.norm.ppf((stats.rankdata(values, axis=0) - 0.5) / 101)
    np.testing.assert_allclose(scores, expected, atol=1e-12)
    back = quantile_map.to_values(torch.from_numpy(scores), knots).numpy()
    np.testing.assert_allclose(back, values, rtol=1e-9)


def test_ties_have_a_band_of_levels() -> None:
    knots = tensor([[0.0], [0.0], [0.0], [4.0]])
    zero = tensor([[0.0]])
    low, middle, high = (
        float(torch.special.ndtr(quantile_map.to_scores(zero, knots, tensor([[share]]))))
        for share in (1 / 6, 0.5, 5 / 6)
    )
    assert (low, middle, high) == pytest.approx((0.125, 0.375, 0.625))
    assert float(quantile_map.to_values(quantile_map.to_scores(zero, knots), knots)) == 0
    # Midway to the next value, the level is midway between theirs.
    assert float(torch.special.ndtr(quantile_map.to_scores(tensor([[2.0]]), knots))) == 0.75


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_map_is_monotone_and_finite(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(1)
    train = np.maximum(rng.normal(size=(700, 5)), 0)
    knots = torch.from_numpy(quantile_map.quantile_knots(train)).to(dtype)
    assert len(knots) == quantile_map.MAX_KNOTS
    values = torch.linspace(-9, 9, 500, dtype=dtype)[:, None].expand(-1, 5)
    scores = quantile_map.to_scores(values, knots)
    assert scores.isfinite().all()
    assert (scores.diff(dim=0) >= 0).all()
    restored = quantile_map.to_values(
        torch.linspace(-40, 40, 99, dtype=dtype)[:, None], knots[:, :1]
    )
    assert restored[0] == knots[0, 0]
    assert restored[-1] == knots[-1, 0]
    assert (restored.diff(dim=0) >= 0).all()


def bags(means: np.ndarray, scale: str) -> bag_file.Bags:
    count = len(means)
    names = [str(index) for index in range(count)]
    return bag_file.Bags(
        means[:, None].astype(np.float32),
        np.ones((count, 1), np.float32),
        np.full((count, 6), np.nan, np.float32),
        np.ones(count, np.int64),
        names,
        "files",
        1,
        scale,  # type: ignore[arg-type]
        True,
    )


@pytest.mark.parametrize("name", ["zscore", "signed_log", "rank"])
def test_a_missing_value_becomes_the_train_median(name: str) -> None:
    values = np.random.default_rng(2).lognormal(sigma=3, size=(60, 4))
    values[7, 1], values[50, 2], values[:, 3] = np.nan, np.nan, np.nan
    train = np.arange(40)
    scale = statistics.fit_scale(bags(values, name), train)
    assert scale is not None
    prepared = scale.prepare_array(values.astype(np.float32))
    median = np.nanmedian(values[:40, :3], axis=0)
    expected = scale.prepare_array(np.append(median, 0).astype(np.float32)[None])[0]
    assert prepared[7, 1] == expected[1]
    assert prepared[50, 2] == expected[2]
    assert np.isfinite(prepared).all()
    scaled = scale.scale_features(torch.from_numpy(values[:40].astype(np.float32))).numpy()
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0)[:3], 1, atol=1e-5)
    if name == "signed_log":
        unit = np.median(np.abs(np.where(np.isnan(values[:40, 0]), 0, values[:40, 0])))
        np.testing.assert_allclose(prepared[:, 0], np.log1p(values[:, 0] / unit), rtol=1e-5)


def test_plain_z_scores_need_no_scale() -> None:
    plain = bag_file.Bags(**(vars(bags(np.ones((3, 2)), "zscore")) | {"missing": False}))
    assert statistics.fit_scale(plain, np.arange(3)) is None


@pytest.mark.parametrize("name", ["signed_log", "rank"])
def test_the_scale_is_stored_with_the_model(name: str, tmp_path: Path) -> None:
    values = np.random.default_rng(3).lognormal(size=(30, 1, 5)).astype(np.float32)
    scaling = statistics.feature_scaling(name, True, len(values))
    settings = config.defaults("baselines")["abmil"] | {"hidden": 8, "attention": 4}
    model = Regressor("abmil", 5, 1, 3, settings, scaling).eval()
    statistics.fit_feature_scale(model, values, np.ones((30, 1), np.float32))
    meta = {
        "model": "abmil",
        "genes": list("XYZ"),
        "features": 5,
        "clusters": 1,
        "settings": {"model": settings},
        "interpolant": "linear",
        "feature_scale": scaling,
    }
    checkpoint.save_model(tmp_path, model, meta)
    loaded, _ = checkpoint.load_model(tmp_path)
    values[0, 0, 0] = np.nan
    batch = torch.from_numpy(values), torch.ones(30, 1)
    assert torch.equal(loaded(*batch), model(*batch))
    assert loaded(*batch).isfinite().all()


def shard(path: Path) -> Path:
    rows = {"slide_id": SLIDES, "status": ["ok"] * 4, "reason": [None] * 4}
    table = pl.DataFrame(rows, schema_overrides={"reason": pl.String})
    table.write_parquet(path / "slides.parquet")
    return path / "slides.parquet"


def check(path: Path, source: Path) -> pl.DataFrame:
    out = path / "files"
    manifest = out / "shard-0.parquet"
    return provided.check_provided_features(shard(path), source, out, manifest, "slide")


def test_a_vector_per_slide_becomes_a_bag_of_one(tmp_path: Path) -> None:
    """Files of (d,) and (1, d), and a table with a missing value and a missing slide."""
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    folder = tmp_path / "h5"
    folder.mkdir()
    for name, vector in zip(SLIDES, vectors, strict=True):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["features"] = vector if name != "B" else vector[None]
            file["features"].attrs["encoder"] = "titan"
    (tmp_path / "a").mkdir()
    assert set(check(tmp_path / "a", folder)["status"]) == {"ok"}
    table = pl.DataFrame(vectors, schema=["x", "y", "z"]).with_columns(
        pl.Series("slide_id", SLIDES), pl.lit("P").alias("patient_id")
    )
    table = table.with_columns(
        pl.when(pl.col("slide_id") == "C").then(None).otherwise("y").alias("y")
    )
    table.filter(pl.col("slide_id") != "D").write_parquet(tmp_path / "table.parquet")
    (tmp_path / "b").mkdir()
    manifest = check(tmp_path / "b", tmp_path / "table.parquet")
    assert manifest["status"].to_list() == ["ok", "ok", "ok", "failed"]
    assert "no row in the table" in manifest["reason"][3]
    for path, failed in ((tmp_path / "a", 0), (tmp_path / "b", 1)):
        out = path / "bags.safetensors"
        settings = config.defaults("features", encoder="files", level="slide", scale="rank")
        manifests = [path / "files" / "shard-0.parquet"]
        bagged = clusters.cluster_slides(
            path / "files", manifests, out, config.defaults("bags"), settings, failed, 1, 1
        )
        stored = bag_file.load(out)
        assert (stored.k, stored.scale, stored.missing) == (1, "rank", True)
        assert stored.sizes.tolist() == [[1.0]] * len(bagged.slide_ids)
        expected = vectors[: len(bagged.slide_ids)].copy()
        if failed:
            expected[2, 1] = np.nan
        np.testing.assert_array_equal(stored.means[:, 0], expected)


def test_files_of_the_other_level_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "A.h5", "w") as file:
        file["features"], file["coords"] = np.ones((5, 3)), np.zeros((5, 2))
    with pytest.raises(SlideError, match=r"\(5, 3\).*features.level: tile"):
        feature_file.read(tmp_path / "A.h5", "slide")
    with h5py.File(tmp_path / "B.h5", "w") as file:
        file["feats"] = np.ones(3)
        file.attrs["feat_type"] = "slide"
    with pytest.raises(SlideError, match=r"features.level: slide"):
        feature_file.read(tmp_path / "B.h5")
    assert feature_file.read(tmp_path / "B.h5", "slide").features.shape == (1, 3)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"slide": ["A"], "x": [1.0]}, "slide_id"),
        ({"slide_id": ["A", "A"], "x": [1.0, 2.0]}, "slide A .*twice"),
        ({"slide_id": ["A"], "x": ["high"]}, "'x'.*numeric"),
        ({"slide_id": ["A"], "patient_id": ["P"]}, "column of features"),
    ],
)
def test_a_wrong_table_is_one_line(
    columns: dict[str, list[object]], message: str, tmp_path: Path
) -> None:
    pl.DataFrame(columns).write_csv(tmp_path / "table.csv")
    with pytest.raises(StageError, match=message):
        check(tmp_path, tmp_path / "table.csv")


def test_a_csv_may_have_gaps_anywhere(tmp_path: Path) -> None:
    """A column that is empty for long, one without any value, NA, and a late decimal."""
    names = [f"S{row:03d}" for row in range(300)] + SLIDES
    text = ["slide_id,late,never,word,whole"]
    text += [
        f"{name},{row if row > 250 else ''},,{'NA' if row == 3 else 1},{row}"
        for row, name in enumerate(names)
    ]
    (tmp_path / "table.csv").write_text("\n".join([*text[:-1], f"{names[-1]},1,,2,0.5"]) + "\n")
    manifest = check(tmp_path, tmp_path / "table.csv")
    assert manifest.select("status", "dim").unique().rows() == [("ok", 4)]
    values = feature_file.read(tmp_path / "files" / "D.h5", "slide").features[0]
    np.testing.assert_array_equal(values, np.array([1, np.nan, 2, 0.5], np.float32))


def test_values_that_are_no_vector_are_refused(tmp_path: Path) -> None:
    for values, message in (
        (np.array([1.0, np.inf]), "infinite"),
        (np.full(2, np.nan), "no value"),
        (np.array(["a"]), "one vector"),
    ):
        with pytest.raises(SlideError, match=message):
            feature_file.slide_vector(tmp_path / "A.h5", values)


def test_scale_without_a_network_equals_the_network() -> None:
    scaling = statistics.feature_scaling("rank", False, 9)
    values = np.random.default_rng(5).normal(size=(9, 1, 2)).astype(np.float32)
    first, second = Scale(2, scaling), Scale(2, scaling)
    for scale in (first, second):
        statistics.fit_feature_scale(scale, values, np.ones((9, 1), np.float32))
    second.load_state_dict(first.state_dict())
    assert np.array_equal(first.prepare_array(values), second.prepare_array(values))
