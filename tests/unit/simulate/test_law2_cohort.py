"""The cohort `law2`: its files, features that hold the truth, expression by its law."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from folders import contents
from slide2rna.core import config, files
from slide2rna.features import feature_file
from slide2rna.simulate import generate, law2_cohort, mixture_law, mixture_patients
from slide2rna.simulate.mixture_law import MixtureLaw
from slide2rna.simulate.mixture_patients import NICHES, TISSUES, Tissue

SEED, PATIENTS = 1, 24
SIGMAS = 6  # that a Monte Carlo mean may be off: one gene in 5e8


@pytest.fixture(scope="module")
def law() -> MixtureLaw:
    return mixture_law.load_mixture_law()


def make(folder: Path, seed: int = SEED, n: int = PATIENTS) -> Path:
    law2_cohort.make(folder, seed, n)
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("law2"))


def expression_of(folder: Path) -> np.ndarray:
    return pl.read_parquet(folder / "expression.parquet").drop("sample_id").to_numpy()


def tissue_of(folder: Path) -> Tissue:
    truth = pl.read_parquet(folder / "truth.parquet")
    return Tissue(truth.select(TISSUES).to_numpy(), truth["m"].to_numpy(), truth["V"].to_numpy())


def test_cohort_files(law: MixtureLaw, cohort: Path) -> None:
    assert files.read_json(cohort / "done.json") == {
        "kind": "law2",
        "slides": PATIENTS,
        "patients": PATIENTS,
        "genes": 480,
        "law": 1,
        "seed": SEED,
    }
    sheet = pl.read_csv(cohort / "sheet.tsv", separator="\t")
    assert sheet.columns == ["slide_id", "patient_id", "slide", "site"]
    assert (sheet["slide"] == "").sum() == sheet["patient_id"].n_unique() == PATIENTS
    assert (sheet["site"] == "B").sum() == round(PATIENTS / 3)
    expression = pl.read_parquet(cohort / "expression.parquet")
    truth = pl.read_parquet(cohort / "truth.parquet")
    genes = pl.read_parquet(cohort / "truth_genes.parquet")
    assert expression.columns == ["sample_id", *law.genes]
    assert set(expression.dtypes[1:]) == {pl.Float32}
    assert truth.columns == ["patient_id", "site", *TISSUES, "m", "V"]
    assert genes.columns == ["gene", "module", "attainable", "linear_limit"]
    assert genes["gene"].to_list() == list(law.genes)
    assert sheet["patient_id"].to_list() == truth["patient_id"].to_list()
    assert sheet["patient_id"].to_list() == expression["sample_id"].to_list()
    assert sheet["site"].to_list() == truth["site"].to_list()
    attributes = feature_file.read_attributes(cohort / "features" / f"{sheet['slide_id'][0]}.h5")
    assert attributes.pop("seal")
    assert attributes == {"encoder": "law2", "mpp": 0.5, "tile_px": 256, "version": 1}
    for slide_id in sheet["slide_id"]:
        tiles = feature_file.read(cohort / "features" / f"{slide_id}.h5")
        assert 300 <= len(tiles.features) <= 600
        assert tiles.features.shape[1] == 32
        assert len(np.unique(tiles.coords, axis=0)) == len(tiles.coords)
        assert tiles.color is not None
        assert 0 <= tiles.color.min() <= tiles.color.max() <= 1


def test_features_hold_the_truth(law: MixtureLaw, cohort: Path) -> None:
    """Each tile's class and state, solved from E and D, give the truth's shares, m and V."""
    truth = tissue_of(cohort)
    np.testing.assert_allclose(truth.shares.sum(1), 1)
    slope = law.direction / np.square(law.direction).sum()
    error = 0.25 * np.square(slope).sum()  # variance of a tile's state, solved so
    for i, path in enumerate(sorted((cohort / "features").glob("*.h5"))):
        features = feature_file.read(path).features.astype(float)
        off = features[:, None] - law.centres
        state = np.clip(off[:, 0] @ slope, 0, 1)
        off[:, 0] -= state[:, None] * law.direction
        nearest = np.square(off).sum(2).argmin(1)
        shares = np.bincount(nearest, minlength=len(TISSUES)) / len(nearest)
        np.testing.assert_allclose(shares, truth.shares[i], atol=1e-12)
        tumour = (features[nearest == 0] - law.centres[0]) @ slope
        n = len(tumour)
        assert tumour.mean() == pytest.approx(truth.state[i], abs=SIGMAS * (error / n) ** 0.5)
        noise_of_variance = (4 * truth.variance[i] * error + 2 * error**2) ** 0.5 / n**0.5
        assert abs(tumour.var() - error - truth.variance[i]) < SIGMAS * noise_of_variance
        residual = off[np.arange(len(nearest)), nearest]
        assert residual.var() == pytest.approx(0.25, rel=0.1)


def test_expression_follows_the_law(law: MixtureLaw, cohort: Path) -> None:
    tissue = tissue_of(cohort)
    off = expression_of(cohort) - law.mean(tissue.shares, tissue.state, tissue.variance)
    off /= law.sd
    assert np.abs(off.mean(0)).max() < SIGMAS / PATIENTS**0.5
    assert np.square(off).mean() == pytest.approx(1, abs=0.1)


def test_seed_decides_and_patients_are_independent(cohort: Path, tmp_path: Path) -> None:
    whole = contents(cohort)
    assert contents(make(tmp_path / "again")) == whole
    other = contents(make(tmp_path / "other", SEED + 1, 3))
    assert other["features/LAW2-001-S1.h5"] != whole["features/LAW2-001-S1.h5"]
    fewer = make(tmp_path / "fewer", n=3)
    for name in (f"LAW2-00{i}-S1.h5" for i in (1, 2, 3)):
        assert (fewer / "features" / name).read_bytes() == whole[f"features/{name}"]
    np.testing.assert_array_equal(expression_of(fewer), expression_of(cohort)[:3])


def test_sites_change_nothing(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixture_patients, "draw_sites", lambda spec, n, rng: ["A"] * n)
    at_a = contents(make(tmp_path))
    assert {name for name, data in contents(cohort).items() if at_a[name] != data} == {
        "sheet.tsv",
        "truth.parquet",
    }


def test_no_done_while_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """done.json of an earlier run goes before the first file changes."""
    make(tmp_path, n=2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(law2_cohort, "_expression", killed)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, SEED + 1, 2)
    assert not (tmp_path / "done.json").exists()


def test_generator_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, int]] = []
    monkeypatch.setattr(law2_cohort, "make", lambda out, seed: calls.append((out, seed)))
    generate.make("law2", str(tmp_path), 7, workers=2)
    assert calls == [(tmp_path, 7)]


def test_configuration(law: MixtureLaw, repo: Path) -> None:
    settings = config.load(repo / "tests" / "config" / "law2.yaml")
    assert settings["cohorts"]["law2"]["source"] == "law2"
    assert len(TISSUES) == len(law.centres) == 6 + len(NICHES)
    assert law.spec["patients"] == 480
