"""Distances to training and their p-values: uniform without shift, small with it."""

from __future__ import annotations

import runpy
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import shift_tables
import synthetic_cohort
import zarr
from scipy import stats
from slide2rna.core.errors import StageError
from slide2rna.data import fold_rows, statistics
from slide2rna.features import bag_file
from slide2rna.studies.shift import distances, reference
from slide2rna.studies.shift.reference import p_value
from synthetic_models import add_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    made = synthetic_cohort.make(tmp_path_factory.mktemp("cohort"), 90, 120, draws=20)
    shift_tables.add_shift(made)
    return made


def judged(made: synthetic_cohort.Synthetic, fold: int = 0) -> pl.DataFrame:
    return pl.read_parquet(made.folder / "shift" / synthetic_cohort.RUN / f"fold-{fold}.parquet")


def law_of(made: synthetic_cohort.Synthetic, fold: int = 0) -> reference.TrainingReference:
    return reference.load(made.folder / "shift" / synthetic_cohort.RUN / f"fold-{fold}.safetensors")


def test_p_values_of_exchangeable_scores_are_uniform() -> None:
    rng = np.random.default_rng(0)
    p = np.array([p_value(rng.normal(), rng.normal(size=19)) for _ in range(4000)])
    assert set(np.round(p * 20).astype(int)) == set(range(1, 21))
    assert stats.chisquare(np.bincount(np.round(p * 20).astype(int))[1:]).pvalue > 0.001


def test_p_value_counts_the_slide_itself_and_ties() -> None:
    held = np.array([1.0, 2.0, 2.0, 3.0])
    assert [p_value(s, held) for s in (0.5, 2.0, 3.5)] == [1.0, 0.8, 0.2]
    assert p_value(1.0, np.empty(0)) is None
    assert p_value(None, held) is None
    assert p_value(float("nan"), held) is None


def test_test_slides_like_training_ones_have_no_small_p(made: synthetic_cohort.Synthetic) -> None:
    p = pl.concat([judged(made, fold) for fold in range(3)]).filter(pl.col("part") == "test")
    first = p.unique("unit", keep="first", maintain_order=True)["bag_p_train"].to_numpy()
    assert len(first) == 90
    assert (first <= 0.05).sum() <= stats.binom.ppf(0.999, 90, 0.05)
    assert 0.35 < first.mean() < 0.65


@pytest.mark.parametrize("what", ["stain", "noise", "blank", "mixture"])
def test_slides_from_elsewhere_stand_out(what: str, made: synthetic_cohort.Synthetic) -> None:
    law, bagged = law_of(made), bag_file.load(made.inputs.bags)
    rng = np.random.default_rng(3)
    means, sizes = bagged.means[0].copy(), bagged.sizes[0].copy()
    if what == "stain":
        means += 3 * law.feature_scale.astype(np.float32)
    elif what == "noise":
        means = (5 * rng.normal(size=means.shape)).astype(np.float32)
    elif what == "blank":
        means[:], sizes[1:] = -4.0, 0
    else:  # a fifth of the tiles are of something else
        means[-1], sizes[:] = 12.0, 5
    found = law.judge(means, sizes)
    assert found["bag_p_train"] <= 0.05
    assert found["expression_p"] is None
    assert found["bag_p"] == 1 / (1 + len(law.cal_bag))


def test_bag_distance_is_the_plain_loops(made: synthetic_cohort.Synthetic) -> None:
    bagged = bag_file.load(made.inputs.bags)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, made.inputs.slides, made.inputs.splits, 0)
    train, test = rows.of("train"), rows.of("test")
    mean, scale = statistics.feature_statistics(bagged.means[train.bag], bagged.sizes[train.bag])
    z = (bagged.means.astype(float) - mean) / scale
    near = z[train.bag].reshape(-1, z.shape[2])
    found = dict(judged(made).select("slide_id", "bag_distance").iter_rows())
    for slide, row in list(zip(test.slide_ids, test.bag, strict=True))[:5]:
        of_clusters = [np.sqrt(((near - one) ** 2).mean(axis=1)).min() for one in z[row]]
        want = np.average(of_clusters, weights=bagged.sizes[row])
        assert found[slide] == pytest.approx(want, rel=2e-3)  # clusters are kept in 16 bits


def test_clusters_count_by_their_tiles(made: synthetic_cohort.Synthetic) -> None:
    law, means = law_of(made), np.zeros((3, 12), np.float32)
    means[1], means[2] = 9.0, 100.0  # the last has no tiles: padding
    alone = [law.bag_distance(means[i : i + 1], np.ones(1)) for i in range(2)]
    both = law.bag_distance(means, np.array([30.0, 10.0, 0.0]))
    assert both == pytest.approx((3 * alone[0] + alone[1]) / 4)


def test_train_patients_are_compared_with_the_others(made: synthetic_cohort.Synthetic) -> None:
    """Two slides of a patient look alike here: counted, they would lie at no distance."""
    bagged, law = bag_file.load(made.inputs.bags), law_of(made)
    train = fold_rows.read_fold_rows(
        bagged.slide_ids, made.inputs.slides, made.inputs.splits, 0
    ).of("train")
    itself = [law.bag_distance(bagged.means[row], bagged.sizes[row]) for row in train.bag]
    assert max(itself) < 1e-3
    assert law.train_bag.min() > 0.05
    assert len(law.train_bag) == len(set(train.sample_ids))
    tested = judged(made).filter(pl.col("part") == "test")["bag_distance"].to_numpy()
    assert stats.mannwhitneyu(tested, law.train_bag).pvalue > 0.001


def test_cal_slides_are_compared_with_the_other_cal_patients(
    made: synthetic_cohort.Synthetic,
) -> None:
    table, law = judged(made), law_of(made)
    cal = table.filter(pl.col("part") == "cal").unique("unit", keep="first")
    assert cal["n_cal"].unique().to_list() == [len(law.cal_bag)] == [cal.height]
    assert set(np.round(cal["bag_p"] * cal.height, 9)) <= {1.0, 2.0}  # 2 patients, one other


def test_expression_distance_is_mahalanobis_in_the_components(
    made: synthetic_cohort.Synthetic,
) -> None:
    law = law_of(made)
    np.testing.assert_allclose(law.components @ law.components.T, np.eye(6), atol=1e-5)
    profile = law.gene_mean + law.gene_sd * (2.0 * law.components[0])
    want = np.sqrt(4 * law.precision[0, 0] / 6)
    assert law.expression_distance(profile) == pytest.approx(want, rel=1e-4)
    assert law.expression_distance(law.gene_mean) == pytest.approx(0, abs=1e-9)


def test_principal_components_match_a_plain_eigendecomposition() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 30)) + 0.3 * rng.normal(size=(80, 30))
    values[:, 7] = 2.0
    mean, sd = statistics.gene_statistics(values, [str(i) for i in range(80)])
    components, precision = distances.principal(values, mean, sd, 3)
    z = np.where(sd > 0, (values - mean) / np.where(sd > 0, sd, 1), 0)
    _, _, axes = np.linalg.svd(z, full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(components * axes[:3], axis=1)), 1, atol=1e-8)
    scores = z @ components.T
    square = np.einsum("ni,ij,nj->n", scores, precision, scores) / 3
    assert square.mean() == pytest.approx(1, abs=0.05)
    assert distances.principal(values[:4], mean, sd, 3)[0].shape[0] == 2


def test_val_slides_have_no_draws_and_the_rest_have(made: synthetic_cohort.Synthetic) -> None:
    path, table = made.inputs.draws[0], judged(made)
    store = zarr.open_group(path, mode="r")
    slide = table.filter(pl.col("part") == "test").row(0, named=True)
    row = list(store.attrs["slide_ids"]).index(slide["slide_id"])
    drawn, law = store["draws"][row].astype(float), law_of(made)
    want = law.expression_distance(drawn.mean(axis=0))
    assert slide["expression_distance"] == pytest.approx(float(want), rel=1e-4)
    active = law.gene_sd > 0
    spread = (drawn.std(axis=0, ddof=1)[active] / law.gene_sd[active]).mean()
    assert slide["spread"] == pytest.approx(spread, rel=1e-4)
    assert table["profiles"].unique().to_list() == ["draws"]


def test_stored_moments_give_what_draws_do(
    made: synthetic_cohort.Synthetic, tmp_path: Path
) -> None:
    """A file that keeps mean and sd instead of draws; val slides have neither."""
    old = zarr.open_group(made.inputs.draws[0], mode="r")
    drawn = old["draws"][:].astype(np.float32)
    values = {"point": old["point"][:], "mean": drawn.mean(axis=1), "sd": drawn.std(axis=1, ddof=1)}
    val = np.array(old.attrs["parts"]) == "val"
    values["mean"][val] = values["sd"][val] = np.nan
    store = zarr.open_group(tmp_path / "fold-0.zarr", mode="w")
    for name, array in values.items():
        store.create_array(name, shape=array.shape, dtype="float32")[:] = array
    store.attrs.update(old.attrs.asdict())
    inputs = shift_tables.inputs(made, tmp_path / "fold-0.zarr")
    files = (tmp_path / "t.parquet", tmp_path / "t.safetensors")
    table = distances.measure_shift(inputs, "x", *files, shift_tables.SETTINGS, 1, 1)
    both = table.filter(pl.col("part") != "val"), judged(made).filter(pl.col("part") != "val")
    for name in ("expression_distance", "expression_p", "spread", "bag_p"):
        np.testing.assert_allclose(*(one[name].to_numpy() for one in both), rtol=1e-4)
    without = table.filter(pl.col("part") == "val")
    assert without["expression_distance"].null_count() == without.height == val.sum()


def test_points_alone_have_distances_and_no_spread(made: synthetic_cohort.Synthetic) -> None:
    paths = add_model(made, "abmil", 0.5)
    folder = shift_tables.add_shift(made, paths, "points")
    table = pl.read_parquet(folder / "fold-0.parquet")
    assert table["profiles"].unique().to_list() == ["point"]
    assert table["spread"].null_count() == table.height
    assert table["expression_distance"].null_count() == table["expression_p"].null_count() == 0
    np.testing.assert_array_equal(table["bag_p"], judged(made)["bag_p"])


def test_few_clusters_keep_the_meaning(made: synthetic_cohort.Synthetic, tmp_path: Path) -> None:
    inputs = shift_tables.inputs(made, made.inputs.draws[0])
    files = [(tmp_path / f"{i}.parquet", tmp_path / f"{i}.safetensors") for i in range(2)]
    settings = shift_tables.SETTINGS | {"clusters": 60}
    one, two = (
        distances.measure_shift(inputs, "x", *both, settings, 1, threads)
        for threads, both in zip((1, 2), files, strict=True)
    )
    assert one.equals(two)
    assert files[0][1].read_bytes() == files[1][1].read_bytes()
    law = reference.load(files[0][1])
    assert law.clusters.shape == (60, 12)
    assert law.train_bag.mean() == pytest.approx(one["bag_distance"].mean(), rel=0.15)


def test_train_bags_are_standardised_without_copies() -> None:
    rng = np.random.default_rng(6)
    means, sizes = rng.normal(size=(150, 20, 256)).astype(np.float32), np.ones((150, 20))
    sizes[7, 3:] = 0
    slides = [f"S{i}" for i in range(120)]
    bagged = SimpleNamespace(means=means, sizes=sizes, scale="zscore", missing=False)
    train = SimpleNamespace(bag=np.arange(120)[::-1], slide_ids=slides)
    tracemalloc.start()
    found = distances._train_bags(bagged, train, {s: s for s in slides}, 10**6, 1, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < means.nbytes  # itself half of it: 120 of 150 slides in 16 bits
    own = found.slides == "S112"  # row 7
    assert own.sum() == 3
    want = (means[7, :3] - found.mean) / found.scale
    np.testing.assert_allclose(found.z[own], want, rtol=1e-3, atol=1e-4)


def test_no_cal_patients_means_no_p(made: synthetic_cohort.Synthetic, tmp_path: Path) -> None:
    splits = made.inputs.splits.read_text().replace("\tcal", "\ttrain")
    (tmp_path / "splits.tsv").write_text(splits)
    inputs = replace(
        shift_tables.inputs(made, made.inputs.draws[0]), splits=tmp_path / "splits.tsv"
    )
    table = distances.measure_shift(inputs, "x", tmp_path / "t.parquet", tmp_path / "t.safetensors",
                      shift_tables.SETTINGS, 1, 1)  # fmt: skip
    assert table["bag_p"].null_count() == table.height
    assert table["n_cal"].max() == 0
    assert table["bag_p_train"].null_count() == 0


def test_command_and_what_is_wrong(
    made: synthetic_cohort.Synthetic, repo: Path, tmp_path: Path
) -> None:
    main = runpy.run_path(str(repo / "scripts/shift.py"))["main"]
    of = made.inputs
    command = ["distances", "--bags", str(of.bags), "--slides", str(of.slides)]
    command += ["--splits", str(of.splits)]
    command += ["--cohort", str(of.cohort), "--run", "x", "--draws", str(of.draws[1])]
    command += ["--out", str(tmp_path / "t.parquet"), "--saved", str(tmp_path / "t.safetensors")]
    main([*command, "--expression", str(of.expression), "--settings", '{"components": 6}'])
    columns = ["slide_id", "bag_distance", "bag_p", "expression_p"]
    assert (
        pl.read_parquet(tmp_path / "t.parquet")
        .select(columns)
        .equals(judged(made, 1).select(columns))
    )
    less = pl.read_parquet(of.expression).drop("GENE0003")
    less.write_parquet(tmp_path / "less.parquet")
    with pytest.raises(StageError, match="GENE0003"):
        main([*command, "--expression", str(tmp_path / "less.parquet")])
    with pytest.raises(StageError, match="stage shift"):
        reference.load(of.bags)
