"""The two generated cohorts: the demo's plan, small cohorts made whole, and what they tell."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import polars as pl
import pytest
from slide2rna.core import files, seeds
from slide2rna.features import feature_file
from slide2rna.simulate import generate, ground_truth
from slide2rna.simulate.ground_truth import CLASSES
from slide2rna.simulate.paint import Plan, paint

SEED = 1
LAW_PATIENTS = 160


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four patients and six small slides: one at 40x, one marked, one without mpp, one scrap."""
    monkeypatch.setattr(generate, "PATIENTS", {"demo": 4, "law": 4})
    monkeypatch.setattr(generate, "SECOND_SLIDES", 2)
    monkeypatch.setattr(generate, "EDGE_PX", (512, 641))
    monkeypatch.setattr(generate, "SCANNED_40X", (3,))
    monkeypatch.setattr(generate, "PEN", 2)
    monkeypatch.setattr(generate, "NO_MPP", 1)
    monkeypatch.setattr(generate, "LITTLE_TISSUE", 1)
    # textures that are made here are there in forked workers
    paint(Plan("warm", 256, 256, (0.5, 0.1, 0.1, 0.1, 0.1, 0.1), "A"), SEED)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def plans(seed: int) -> list[generate.SimulatedSlide]:
    own = ground_truth.load_law()
    pi, sites = own.patients(generate.PATIENTS["demo"], seeds.rng_for(seed, "demo", "patients"))
    names = [f"DEMO-{i + 1:03d}" for i in range(len(pi))]
    return list(generate._plans(own, names, pi, sites, seed))


@pytest.mark.parametrize("seed", [1, 2, 12345])
def test_plan(seed: int) -> None:
    slides = plans(seed)
    assert len(slides) == len({slide.plan.slide_id for slide in slides}) == 48
    per_patient: dict[str, list[generate.SimulatedSlide]] = {}
    for slide in slides:
        per_patient.setdefault(slide.patient_id, []).append(slide)
    assert len(per_patient) == 40
    assert sorted(len(own) for own in per_patient.values()) == [1] * 32 + [2] * 8
    assert all(len({slide.plan.site for slide in own}) == 1 for own in per_patient.values())
    sites = [own[0].plan.site for own in per_patient.values()]
    assert sites.count("B") == 13
    assert [slide.power for slide in slides].count(40) == 3
    assert sum(slide.plan.pen for slide in slides) == 1
    assert sum(not slide.says_mpp for slide in slides) == 1
    scraps = [slide for slide in slides if slide.plan.cover < 0.1]
    assert len(scraps) == 1
    assert len(per_patient[scraps[0].patient_id]) == 2
    # the odd ones are different slides, so that each tells of one thing alone
    odd = [
        (slide.power == 40) + slide.plan.pen + (not slide.says_mpp) + (slide.plan.cover < 0.1)
        for slide in slides
    ]
    assert max(odd) == 1


def test_plan_is_of_its_seed() -> None:
    assert plans(1) == plans(1)
    assert plans(1) != plans(2)
    for slide in plans(1):
        assert sum(slide.plan.shares) == pytest.approx(1)
        assert min(slide.plan.shares) > 0


def test_demo_is_whole(tiny: None, tmp_path: Path) -> None:
    generate.make("demo", tmp_path, SEED)
    own = ground_truth.load_law()
    sheet = pl.read_csv(tmp_path / "sheet.tsv", separator="\t")
    expression = pl.read_parquet(tmp_path / "expression.parquet")
    known = pl.read_parquet(tmp_path / "truth.parquet")
    assert files.read_json(tmp_path / "done.json") == {
        "kind": "demo",
        "slides": 6,
        "patients": 4,
        "genes": len(own.genes),
        "law": own.version,
        "seed": SEED,
    }
    assert sheet.columns == ["slide_id", "patient_id", "slide", "site", "mpp"]
    assert expression.columns == ["sample_id", *own.genes]
    assert expression["sample_id"].to_list() == known["patient_id"].to_list()
    assert set(sheet["patient_id"]) == set(expression["sample_id"])
    assert set(expression.dtypes[1:]) == {pl.Float32}
    values = expression.drop("sample_id").to_numpy()
    assert values.min() > 0
    pi = known.select(CLASSES).to_numpy()
    np.testing.assert_allclose(pi.sum(1), 1)
    assert set(known["subtype"]) <= {0, 1}
    # the sites of the sheet are those of the truth
    sites = dict(known.select("patient_id", "site").iter_rows())
    assert all(sites[p] == s for p, s in sheet.select("patient_id", "site").iter_rows())
    for slide_id, slide, mpp in sheet.select("slide_id", "slide", "mpp").iter_rows():
        with openslide.OpenSlide(tmp_path / slide) as opened:
            said = opened.properties.get(openslide.PROPERTY_NAME_MPP_X)
            power = opened.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
            assert opened.properties[openslide.PROPERTY_NAME_VENDOR] == "aperio"
            wide = opened.dimensions[0] >= 1024
        # the sheet says mpp where the slide doesn't, and only there
        assert (said is None) == (mpp is not None) == (slide_id == "DEMO-002-S1")
        assert wide == (power == "40") == (said == "0.25") == (slide_id == "DEMO-004-S1")
    # a scrap says nothing of its patient, another second slide does
    shares = {
        path.stem: np.array(files.read_json(path)["shares"])
        for path in (tmp_path / "slides").glob("*.json")
    }
    seconds = sheet["slide_id"].to_list()[4:]
    for slide_id, scrap in zip(seconds, (False, True), strict=True):
        patient = slide_id.removesuffix("-S2")
        first = shares[f"{patient}-S1"]
        expected = first if scrap else (first + shares[slide_id]) / 2
        row = known.filter(pl.col("patient_id") == patient).select(CLASSES).to_numpy()[0]
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_workers_and_interruption_change_nothing(tiny: None, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    generate.make("demo", one, SEED, workers=1)
    whole = contents(one)
    generate.make("demo", two, SEED, workers=2)
    assert contents(two) == whole
    # killed while painting: no tables, a slide without its note, one without either
    for name in ("done.json", "sheet.tsv", "expression.parquet", "truth.parquet"):
        (one / name).unlink()
    (one / "slides/DEMO-001-S1.svs").unlink()
    (one / "slides/DEMO-001-S1.json").unlink()
    (one / "slides/DEMO-003-S1.json").unlink()
    kept = one / "slides/DEMO-002-S1.svs"
    before = kept.stat().st_mtime_ns
    generate.make("demo", one, SEED)
    assert contents(one) == whole
    assert kept.stat().st_mtime_ns == before  # what was there is not painted again


def test_another_seed_repaints(tiny: None, tmp_path: Path) -> None:
    """A slide that is there is taken only if seed and plan are the same."""
    slide = plans(SEED)[0]
    seen = []
    for seed, own in ((SEED, slide), (SEED + 1, slide), (SEED, replace(slide, power=40))):
        generate._paint_slide(own, tmp_path / "reused", seed)
        generate._paint_slide(own, tmp_path / f"fresh-{len(seen)}", seed)
        seen.append(contents(tmp_path / "reused"))
        assert seen[-1] == contents(tmp_path / f"fresh-{len(seen) - 1}")
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_a_slide_of_another_run_is_not_taken(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a slide and its note under another seed, the old note must not vouch."""
    slide = plans(SEED)[0]
    folder = tmp_path / "slides"
    generate._paint_slide(slide, folder, SEED)
    whole = contents(folder)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            generate._paint_slide(slide, folder, SEED + 1)
    generate._paint_slide(slide, folder, SEED)
    assert contents(folder) == whole


def test_no_done_while_unfinished(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """done.json of an earlier run goes before the first file changes."""
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
        patched.setattr(generate, "PATIENTS", {"demo": 40, "law": LAW_PATIENTS})
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
    monkeypatch.setattr(generate, "PATIENTS", {"demo": 40, "law": LAW_PATIENTS})
    generate.make("law", tmp_path, SEED, workers=2)
    assert contents(tmp_path) == contents(cohort)
