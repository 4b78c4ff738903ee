"""The generated cohort `law`: its files, features that show tissue, expression by its law."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from folders import contents
from slide2rna.features import feature_file
from slide2rna.simulate import generate, ground_truth
from slide2rna.simulate.ground_truth import CLASSES

SEED = 1
LAW_PATIENTS = 160


def test_no_done_while_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """done.json of an earlier run goes before the first file changes."""
    monkeypatch.setattr(generate, "PATIENTS", {"law": 4})
    generate.make("law", tmp_path, SEED)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "_expression", killed)
    with pytest.raises(KeyboardInterrupt):
        generate.make("law", tmp_path, SEED + 1)
    assert not (tmp_path / "done.json").exists()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A law cohort of fewer patients, made through the command line."""
    path = Path(generate.__file__).parents[2] / "demo.py"
    spec = importlib.util.spec_from_file_location("demo_cli", path)
    assert spec is not None
    assert spec.loader is not None
    cli = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cli)
    out = tmp_path_factory.mktemp("law")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(generate, "PATIENTS", {"law": LAW_PATIENTS})
        cli.main(["--kind", "law", "--out", str(out), "--seed", str(SEED)])
    return out


@pytest.fixture(scope="module")
def tiles(cohort: Path) -> list[feature_file.Features]:
    sheet = pl.read_csv(cohort / "sheet.tsv", separator="\t")
    return [feature_file.read(cohort / "features" / f"{name}.h5") for name in sheet["slide_id"]]


def predicted(x: np.ndarray, y: np.ndarray, penalty: float = 1e-3) -> np.ndarray:
    """Ridge predictions of y (n, k) by x (n, d), each tenth by the other nine."""
    x = (x - x.mean(0)) / x.std(0)
    guess = np.zeros_like(y)
    fold = np.arange(len(x)) % 10
    for part in range(10):
        train, mean = x[fold != part], y[fold != part].mean(0)
        gram = train.T @ train + penalty * len(train) * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, train.T @ (y[fold != part] - mean))
        guess[fold == part] = x[fold == part] @ weights + mean
    return guess


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(y.shape[1])])


def test_law_files(cohort: Path, tiles: list[feature_file.Features]) -> None:
    sheet = pl.read_csv(cohort / "sheet.tsv", separator="\t")
    assert sheet.height == sheet["patient_id"].n_unique() == LAW_PATIENTS
    assert sheet["slide"].null_count() + (sheet["slide"] == "").sum() == LAW_PATIENTS
    counts = np.array([len(own.features) for own in tiles])
    assert counts.min() >= generate.TILES[0]
    assert counts.max() < generate.TILES[1]
    for own in tiles[:20]:
        assert own.features.shape[1] == generate.DIM
        assert len(np.unique(own.coords, axis=0)) == len(own.coords)
        assert own.color is not None
        assert 0 <= own.color.min() <= own.color.max() <= 1
    attributes = feature_file.read_attributes(cohort / "features" / f"{sheet['slide_id'][0]}.h5")
    assert attributes.pop("seal")
    assert attributes == {"encoder": "law", "mpp": 0.5, "tile_px": 256, "version": 1}


def test_features_tell_tissue_and_colour_tells_less(
    cohort: Path, tiles: list[feature_file.Features]
) -> None:
    pi = pl.read_parquet(cohort / "truth.parquet").select(CLASSES).to_numpy()
    features = np.stack([own.features.mean(0) for own in tiles]).astype(float)
    colour = np.stack([own.color.mean(0) for own in tiles if own.color is not None]).astype(float)
    by_features = correlations(predicted(features, pi), pi)
    by_colour = correlations(predicted(colour, pi), pi)
    assert (by_features > 0.9).sum() >= 4
    assert by_features.min() > 0.6
    assert (by_features > by_colour).sum() >= 5
    assert by_colour.mean() < by_features.mean() - 0.1


def test_expression_follows_the_law(cohort: Path) -> None:
    own = ground_truth.load_law()
    known = pl.read_parquet(cohort / "truth.parquet")
    x = pl.read_parquet(cohort / "expression.parquet").drop("sample_id").to_numpy().astype(float)
    pi, sites = known.select(CLASSES).to_numpy(), known["site"].to_numpy().astype(str)
    z = known["subtype"].to_numpy()
    off = (x - own.mean(pi, sites)) / own.sd(pi, sites)
    assert np.abs(off.mean(0) * LAW_PATIENTS**0.5).max() < 5.5
    assert np.square(off).mean() == pytest.approx(1, abs=0.05)
    inside = (x > own.quantile(0.05, pi, sites)) & (x < own.quantile(0.95, pi, sites))
    assert inside.mean() == pytest.approx(0.9, abs=0.01)
    # given the subtype as well, one Gaussian is left
    residual = x - own.base_mean(pi, sites) - z[:, None] * own.shift
    np.testing.assert_allclose(residual.std(0) / own.residual_sd, 1, atol=0.35)
    r = correlations(own.mean(pi, sites)[:, own.effect != 0], x[:, own.effect != 0])
    np.testing.assert_allclose(r, own.attainable_r(pi, sites)[own.effect != 0], atol=0.35)


def test_law_does_not_depend_on_workers(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "PATIENTS", {"law": LAW_PATIENTS})
    generate.make("law", tmp_path, SEED, workers=2)
    assert contents(tmp_path) == contents(cohort)
