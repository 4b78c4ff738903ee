"""The generated cohort `demo`: its plan, small cohorts, and what they tell."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import openslide
import polars as pl
import pytest
from folders import contents
from slide2rna.core import files, seeds
from slide2rna.simulate import demo_cohort, mixture_patients, painted_slide
from slide2rna.simulate.demo_cohort import NEW, Layout
from slide2rna.simulate.ground_truth import CLASSES
from slide2rna.simulate.mixture_law import MixtureLaw
from slide2rna.simulate.paint import Plan, paint
from slide2rna.simulate.painted_slide import SimulatedSlide
from slide2rna.simulate.textures import PAINTED

pytestmark = pytest.mark.slow  # the package starts processes, or trains


SEED = 1
# Four patients and six small slides: one at 40x, one marked, one without mpp, one scrap.
TINY = Layout(4, 2, (512, 640), scanned_40x=(3,), pen=2, no_mpp=1, scrap=1)


@pytest.fixture(scope="module")
def law() -> MixtureLaw:
    return demo_cohort.load_demo_law()


@pytest.fixture(scope="module")
def warm() -> None:
    """Textures and stamps that are made here are there in forked workers."""
    paint(Plan("warm", 256, 256, (1 / 7,) * 7, "A", states=(0, 0.25, 0.5, 0.75, 1)), SEED)


def make(folder: Path, workers: int = 1, layout: Layout = TINY, seed: int = SEED) -> Path:
    demo_cohort.make(folder, seed, workers, layout)
    return folder


@pytest.fixture(scope="module")
def tiny(warm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("demo"))


def plans(law: MixtureLaw, seed: int) -> list[SimulatedSlide]:
    layout = Layout.of(law.spec)
    names = [f"DEMO-{i + 1:03d}" for i in range(layout.patients)]
    sites = mixture_patients.draw_sites(law.spec, len(names), seeds.rng_for(seed, "demo", "sites"))
    return demo_cohort.plan(law, names, sites, layout, seed)


@pytest.mark.parametrize("seed", [1, 2, 12345])
def test_plan(law: MixtureLaw, seed: int) -> None:
    slides = plans(law, seed)
    assert len(slides) == len({slide.plan.slide_id for slide in slides}) == 130
    per_patient: dict[str, list[SimulatedSlide]] = {}
    for slide in slides:
        per_patient.setdefault(slide.patient_id, []).append(slide)
    assert len(per_patient) == 120
    assert NEW not in per_patient
    assert sorted(len(own) for own in per_patient.values()) == [1] * 110 + [2] * 10
    assert all(len({slide.plan.site for slide in own}) == 1 for own in per_patient.values())
    sites = [own[0].plan.site for own in per_patient.values()]
    assert sites.count("B") == 40
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


def test_plan_is_of_its_seed_and_of_the_patient(law: MixtureLaw) -> None:
    slides = plans(law, 1)
    assert slides == plans(law, 1)
    assert slides != plans(law, 2)
    layout = Layout.of(law.spec)
    for place in (0, 20):
        alone = slides[place]
        again = demo_cohort.plan_slide(law, alone.patient_id, 1, alone.plan.site, layout, 1, place)
        assert again == alone  # whatever the other patients are
    for slide in slides:
        assert sum(slide.plan.shares) == pytest.approx(1)
        assert slide.plan.shares[CLASSES.index("lumen")] < 0.25  # tiles need tissue
        assert 0 <= slide.plan.states[0] <= slide.plan.states[-1] <= 1
        assert list(slide.plan.states) == sorted(slide.plan.states)


def test_two_slides_of_a_patient_differ_a_little(law: MixtureLaw) -> None:
    slides = {slide.plan.slide_id: np.array(slide.plan.shares) for slide in plans(law, 1)}
    gaps = [
        np.abs(shares - slides[name.replace("-S2", "-S1")]).sum() / 2
        for name, shares in slides.items()
        if name.endswith("-S2")
    ]
    first = [shares for name, shares in slides.items() if name.endswith("-S1")]
    strangers = [np.abs(a - b).sum() / 2 for a, b in pairwise(first)]
    assert 0.01 < np.mean(gaps) < np.mean(strangers) / 2


def test_demo_is_whole(law: MixtureLaw, tiny: Path) -> None:
    sheet = pl.read_csv(tiny / "sheet.tsv", separator="\t")
    expression = pl.read_parquet(tiny / "expression.parquet")
    known = pl.read_parquet(tiny / "truth.parquet")
    genes = pl.read_parquet(tiny / "truth_genes.parquet")
    assert files.read_json(tiny / "done.json") == {
        "kind": "demo",
        "slides": 6,
        "patients": 4,
        "genes": len(law.genes),
        "law": law.version,
        "seed": SEED,
    }
    assert sheet.columns == ["slide_id", "patient_id", "slide", "site", "mpp"]
    assert expression.columns == ["sample_id", *law.genes]
    assert known.columns == ["patient_id", "site", *PAINTED, "m", "V"]
    assert genes.columns == ["gene", "module", "home", "attainable", "linear_limit"]
    assert genes["gene"].to_list() == list(law.genes)
    assert set(genes["home"].drop_nulls()) == {"stroma", "fat", "lymphocytes", "mucin"}
    assert expression["sample_id"].to_list() == known["patient_id"].to_list()
    assert set(sheet["patient_id"]) == set(expression["sample_id"])
    assert set(expression.dtypes[1:]) == {pl.Float32}
    assert expression.drop("sample_id").to_numpy().min() > 0
    np.testing.assert_allclose(known.select(PAINTED).to_numpy().sum(1), 1)
    # the sites of the sheet are those of the truth
    sites = dict(known.select("patient_id", "site").iter_rows())
    assert all(sites[p] == s for p, s in sheet.select("patient_id", "site").iter_rows())
    for slide_id, slide, mpp in sheet.select("slide_id", "slide", "mpp").iter_rows():
        with openslide.OpenSlide(tiny / slide) as opened:
            said = opened.properties.get(openslide.PROPERTY_NAME_MPP_X)
            power = opened.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
            assert opened.properties[openslide.PROPERTY_NAME_VENDOR] == "aperio"
            wide = opened.dimensions[0] >= 1024
        # the sheet says mpp where the slide doesn't, and only there
        assert (said is None) == (mpp is not None) == (slide_id == "DEMO-002-S1")
        assert wide == (power == "40") == (said == "0.25") == (slide_id == "DEMO-004-S1")


def test_truth_is_what_was_painted(law: MixtureLaw, tiny: Path) -> None:
    """A scrap says nothing of its patient; two slides have the mean share, one tumour together."""
    known = pl.read_parquet(tiny / "truth.parquet")
    seconds = pl.read_csv(tiny / "sheet.tsv", separator="\t")["slide_id"].to_list()[4:]
    for slide_id, scrap in zip(seconds, (False, True), strict=True):
        first = files.read_json(tiny / "slides" / f"{slide_id.removesuffix('2')}1.json")
        second = files.read_json(tiny / "slides" / f"{slide_id}.json")
        row = known.row(by_predicate=pl.col("patient_id") == slide_id[:-3], named=True)
        one, two = np.array(first["shares"]), np.array(second["shares"])
        expected = one if scrap else (one + two) / 2
        np.testing.assert_allclose([row[name] for name in PAINTED], expected, atol=1e-12)
        weights = np.array([one[0], 0 if scrap else two[0]])
        states = np.array([first["state"], second["state"]])
        variances = np.array([first["variance"], second["variance"]])
        mean = (weights @ states) / weights.sum()
        pooled = weights @ (variances + np.square(states - mean)) / weights.sum()
        assert row["m"] == pytest.approx(mean)
        assert row["V"] == pytest.approx(pooled, abs=1e-12)


def test_a_new_patient_is_in_no_table_of_the_cohort(law: MixtureLaw, tiny: Path) -> None:
    new = tiny / "new"
    assert NEW not in (tiny / "sheet.tsv").read_text()
    profile = pl.read_parquet(new / "expression.parquet")
    known = pl.read_parquet(new / "truth.parquet")
    assert profile.columns == ["sample_id", *law.genes]
    assert profile["sample_id"].to_list() == known["patient_id"].to_list() == [NEW]
    for table in ("expression.parquet", "truth.parquet"):
        assert NEW not in pl.read_parquet(tiny / table).to_series(0).to_list()
    painted = files.read_json(new / f"{NEW}-S1.json")
    assert known.select(PAINTED).row(0) == pytest.approx(painted["shares"])
    with openslide.OpenSlide(new / f"{NEW}-S1.svs") as slide:
        assert slide.properties[openslide.PROPERTY_NAME_MPP_X] == "0.5"
    mean = law.mean(painted["shares"], painted["state"], painted["variance"])
    off = (profile.drop("sample_id").to_numpy()[0] - mean) / law.sd
    assert np.square(off).mean() == pytest.approx(1, abs=0.3)


def test_expression_follows_what_was_painted(
    law: MixtureLaw, warm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other shares on the slides, all else the same: expression moves as the law says."""
    folders = tmp_path / "planned", tmp_path / "moved"
    make(folders[0])
    measure = painted_slide.paint

    def moved(plan: Plan, seed: int) -> object:
        painted = measure(plan, seed)
        return painted._replace(shares=np.roll(painted.shares, 1), state=1 - painted.state)

    monkeypatch.setattr(painted_slide, "paint", moved)
    make(folders[1])
    x, mean = [], []
    for folder in folders:
        known = pl.read_parquet(folder / "truth.parquet")
        table = pl.read_parquet(folder / "expression.parquet").drop("sample_id")
        x.append(table.to_numpy().astype(float))
        columns = (known["m"].to_numpy(), known["V"].to_numpy(), known["site"].to_numpy())
        mean.append(law.mean(known.select(PAINTED).to_numpy(), *columns))
    np.testing.assert_allclose(x[1] - x[0], mean[1] - mean[0], atol=1e-4)
    signal = np.array(law.modules) != "none"
    assert np.abs(x[1] - x[0])[:, signal].mean() > 0.3
    assert np.abs(x[1] - x[0])[:, ~signal].max() < 1e-4


def test_workers_and_interruption_change_nothing(tiny: Path, tmp_path: Path) -> None:
    whole = contents(tiny)
    one = make(tmp_path / "one", workers=2)
    assert contents(one) == whole
    # killed while painting: no tables, a slide without its note, one without either
    for name in ("done.json", "sheet.tsv", "expression.parquet", "truth.parquet"):
        (one / name).unlink()
    (one / "slides/DEMO-001-S1.svs").unlink()
    (one / "slides/DEMO-001-S1.json").unlink()
    (one / "slides/DEMO-003-S1.json").unlink()
    (one / f"new/{NEW}-S1.json").unlink()
    kept = one / "slides/DEMO-002-S1.svs"
    before = kept.stat().st_mtime_ns
    make(one)
    assert contents(one) == whole
    assert kept.stat().st_mtime_ns == before  # what was there is not painted again


def small(law: MixtureLaw) -> SimulatedSlide:
    return demo_cohort.plan_slide(law, "DEMO-001", 1, "A", TINY, SEED)


def test_another_seed_repaints(law: MixtureLaw, warm: None, tmp_path: Path) -> None:
    """A slide that is there is taken only if seed and plan are the same."""
    slide = small(law)
    seen = []
    for seed, own in ((SEED, slide), (SEED + 1, slide), (SEED, replace(slide, power=40))):
        painted_slide.paint_slide(own, tmp_path / "reused", seed)
        painted_slide.paint_slide(own, tmp_path / f"fresh-{len(seen)}", seed)
        seen.append(contents(tmp_path / "reused"))
        assert seen[-1] == contents(tmp_path / f"fresh-{len(seen) - 1}")
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_a_slide_of_another_run_is_not_taken(
    law: MixtureLaw, warm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a slide and its note under another seed, the old note must not vouch."""
    slide = small(law)
    folder = tmp_path / "slides"
    painted_slide.paint_slide(slide, folder, SEED)
    whole = contents(folder)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            painted_slide.paint_slide(slide, folder, SEED + 1)
    painted_slide.paint_slide(slide, folder, SEED)
    assert contents(folder) == whole


def test_no_done_while_the_demo_is_unfinished(
    warm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(TINY, patients=2, second=0, edge_px=(256, 256))
    make(tmp_path, layout=one)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_cohort, "_of_patients", killed)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, layout=one, seed=SEED + 1)
    assert not (tmp_path / "done.json").exists()
