"""Resampled bags: which tiles they are of, what decides them, and that training alone sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import flow_cohort
import numpy as np
import polars as pl
import pytest
import torch
from numerics import blobs
from slide2rna.core import config, files
from slide2rna.core.errors import ConfigError, StageError
from slide2rna.features import bag_file, clusters, extract, feature_file, resample, resample_file
from slide2rna.plan import runs
from slide2rna.storage import parquet
from slide2rna.training import fit, linear_fit, objective, resampled_bags
from training_cohort import CPU, cohort

torch.set_num_threads(1)
__all__ = ["cohort"]  # the fixture
K = 4


def folder(path: Path, counts: dict[str, int], shards: int = 1) -> Path:
    """Features of slides with these numbers of tiles; a separate feature marks each tile."""
    rows = []
    for i, (name, n) in enumerate(sorted(counts.items())):
        values = np.hstack([blobs(n, 5, 3, seed=i), np.eye(n, 60, dtype=np.float32)])
        made = feature_file.Features(values, np.zeros((n, 2), np.int64), None)
        feature_file.write(path / f"{name}.h5", made, {"encoder": "x"})
        rows.append({"slide_id": name, "status": "ok", "n_tiles": n, "n_rejected": 0, "dim": 65})
    for shard in range(shards):
        table = pl.DataFrame(rows[shard::shards], schema=extract.MANIFEST_SCHEMA)
        parquet.write(table, path / f"shard-{shard}.parquet")
    return path


def settings(**changes: object) -> dict[str, object]:
    return config.defaults("bags", **({"k": K, "resamples": 3, "resample_share": 0.3} | changes))


def run(path: Path, seed: int = 1, threads: int = 1, **changes: object) -> Path:
    out = path.parent / f"{path.name}.safetensors"
    manifests = sorted(path.glob("shard-*.parquet"), reverse=True)
    resample.resample_slides(path, manifests, out, settings(**changes), 0, seed, threads)
    return out


def test_each_bag_is_of_distinct_tiles_of_the_share(tmp_path: Path) -> None:
    path = folder(tmp_path / "f", {"a": 50, "b": 41})
    means, sizes = resample_file.read(run(path), ["a", "b"], (K, 65))
    assert (means.shape, sizes.shape) == ((2, 3, K, 65), (2, 3, K))
    assert sizes.sum(axis=2).tolist() == [[15] * 3, [13] * 3]  # 0.3 of the tiles, rounded up
    tiles = (means * sizes[..., None]).sum(axis=2)[..., 5:]  # how often each tile is in a bag
    assert set(np.rint(tiles).ravel()) == {0, 1}
    np.testing.assert_allclose(tiles, np.rint(tiles), atol=1e-5)
    drawn = np.rint(tiles).astype(int)
    for slide, count in enumerate((50, 41)):
        own = drawn[slide, :, :count]
        assert own.sum(axis=1).tolist() == drawn[slide].sum(axis=1).tolist()
        assert len(np.unique(own, axis=0)) == 3  # three different draws
        for number in range(3):
            chosen = resample.draw_tiles(count, 0.3, 1, "ab"[slide], number)
            assert chosen.tolist() == np.flatnonzero(own[number]).tolist()


def test_neither_order_nor_shards_nor_threads_nor_other_slides_decide_a_bag(tmp_path: Path) -> None:
    whole = run(folder(tmp_path / "f", {"a": 50, "b": 41, "c": 30}))
    first = whole.read_bytes()
    assert run(tmp_path / "f", threads=2).read_bytes() == first
    sharded = folder(tmp_path / "s" / "f", {"a": 50, "b": 41, "c": 30}, shards=3)
    assert run(sharded).read_bytes() == first
    means, sizes = resample_file.read(whole, ["b", "a"], (K, 65))
    more = resample_file.read(run(tmp_path / "f", resamples=5), ["b"], (K, 65))
    np.testing.assert_array_equal(more[0][0, :3], means[0])
    alone = folder(tmp_path / "alone", {"a": 50})
    np.testing.assert_array_equal(resample_file.read(run(alone), ["a"], (K, 65))[0][0], means[1])
    assert not np.array_equal(resample_file.read(run(alone, seed=2), ["a"], (K, 65))[1], sizes[1:])


def test_a_slide_of_few_tiles_keeps_its_whole_bag(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder(tmp_path / "f", {"a": 50, "few": 13})  # 0.3 of them are 4, as many as k
    with caplog.at_level("WARNING", logger="slide2rna"):
        out = run(path)
    assert "1 of 2 slides" in caplog.text
    manifests = [path / "shard-0.parquet"]
    bags = clusters.cluster_slides(
        path, manifests, tmp_path / "w.st", settings(), config.defaults("features"), 0, 1, 1
    )
    means, sizes = resample_file.read(out, ["few"], (K, 65))
    for number in range(3):
        np.testing.assert_array_equal(means[0, number], bags.means[1])
        np.testing.assert_array_equal(sizes[0, number], bags.sizes[1])
    lone = folder(tmp_path / "lone", {"few": 13})
    with pytest.raises(StageError, match="4 tiles"):
        run(lone)
    assert not (tmp_path / "lone.safetensors").exists()


def test_the_whole_bags_are_the_same_with_and_without_resamples(tmp_path: Path) -> None:
    path = folder(tmp_path / "f", {"a": 50, "b": 41})
    written = []
    for changes in ({"resamples": 0}, {"resamples": 7, "resample_share": 0.9}):
        clusters.cluster_slides(
            *(path, [path / "shard-0.parquet"], tmp_path / "w.st", settings(**changes)),
            *(config.defaults("features"), 0, 1, 1),
        )
        written.append((tmp_path / "w.st").read_bytes())
    assert written[0] == written[1]
    assert config.result_settings("bags", config.defaults("bags")) == {"k": 100, "iterations": 25}


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    out = run(folder(tmp_path / "f", {"a": 50}))
    with pytest.raises(StageError, match="slide 'z'"):
        resample_file.read(out, ["a", "z"], (K, 65))
    with pytest.raises(StageError, match=r"\(5, 65\)"):
        resample_file.read(out, ["a"], (5, 65))
    out.write_bytes(out.read_bytes()[:-4])
    with pytest.raises(StageError, match="damaged or edited"):
        resample_file.read(out, ["a"], (K, 65))
    out.write_bytes(out.read_bytes()[:20])
    with pytest.raises(StageError, match="bags file"):
        resample_file.read(out, ["a"], (K, 65))


def written(cohort: flow_cohort.FlowCohort, path: Path, untouched: float) -> Path:
    """Two further bags of each slide; those of slides outside train are of one value alone."""
    bagged = bag_file.load(cohort.inputs.bags)
    train = {f"{patient}-{s}" for patient in cohort.patients[:14] for s in range(2)}
    rng, slides = np.random.default_rng(1), []
    for name, means, sizes in zip(bagged.slide_ids, bagged.means, bagged.sizes, strict=True):
        noise = rng.normal(size=(2, *means.shape)).astype(np.float32)
        if name in train:
            slides.append([(means + own, sizes) for own in noise])
        else:
            slides.append([(np.full_like(means, untouched), sizes)] * 2)
    shape = bagged.means.shape[1:]
    facts = resample_file.ResampleFacts(bagged.slide_ids, 2, 0.5, shape, bagged.encoder)
    resample_file.save(facts, slides, path)
    return path


@pytest.mark.parametrize("skip", ["gaussian", "ridge"])
def test_training_sees_those_of_train_slides_alone(
    cohort: flow_cohort.FlowCohort, tmp_path: Path, skip: str
) -> None:
    """NaN in the bags of a val slide would end the training, and any value would change it."""
    weights, losses = [], []
    for name, untouched in (("none", None), ("zero", 0.0), ("nan", np.nan)):
        inputs = cohort.inputs
        if untouched is not None:
            path = written(cohort, tmp_path / f"{name}.safetensors", untouched)
            inputs = replace(inputs, resamples=path)
        own = flow_cohort.settings()
        own["model"] |= {"skip": skip}
        model = fit.fit_fold(inputs, tmp_path / name, own, 3, CPU)
        weights.append(torch.cat([p.detach().ravel() for p in model.state_dict().values()]))
        losses.append(pl.read_parquet(tmp_path / name / "log.parquet")["train_loss"].to_list())
        number = files.read_json(tmp_path / name / "model.json").get("resamples")
        assert number == (None if untouched is None else 2)
    assert torch.equal(weights[1], weights[2])
    assert losses[1] == losses[2]
    assert losses[0] != losses[1]


def test_the_ridge_and_its_left_out_residuals_are_those_of_whole_bags(
    cohort: flow_cohort.FlowCohort, tmp_path: Path
) -> None:
    """Without a head nothing of the start depends on them; the groups stay the units."""
    path = written(cohort, tmp_path / "r.safetensors", np.nan)
    starts = []
    for resamples in (None, path):
        own = flow_cohort.settings(epochs=1)
        own["model"] |= {"skip": "ridge", "head": "none", "mixture": 0}
        inputs = replace(cohort.inputs, resamples=resamples)
        out = tmp_path / ("with" if resamples else "without")
        model = fit.fit_fold(inputs, out, own, 3, CPU)
        search = pl.read_parquet(out / "search.parquet").filter(pl.col("step") != "network")
        starts.append((model.mean, model.loadings, search.drop("seconds")))
    assert torch.equal(starts[0][0].linear.weight, starts[1][0].linear.weight)
    assert torch.equal(starts[0][1], starts[1][1])
    assert starts[0][2].equals(starts[1][2])


def tensors(slides: int, number: int) -> objective.TensorPart:
    """Bags whose values say which they are: 10 x slide + bag, 0 being the whole one."""
    names = 10.0 * torch.arange(slides)[:, None] + torch.arange(number + 1)
    means = names[..., None, None].expand(-1, -1, 2, 3)
    further = resampled_bags.ResampledBags(means[:, 1:], names[:, 1:, None].expand(-1, -1, 2))
    whole = means[:, 0], names[:, 0, None].expand(-1, 2)
    return objective.TensorPart(*whole, torch.arange(slides)[:, None].float(), further)


def test_one_bag_of_each_slide_is_drawn_all_alike() -> None:
    part, counts = tensors(40, 3), np.zeros(4)
    generator = torch.Generator().manual_seed(5)
    for _ in range(50):
        rows = torch.randperm(40, generator=generator)
        batch = part.batch(rows, generator)
        named = batch.means[:, 0, 0].int()
        assert torch.equal(named // 10, rows.int())  # each slide once, with a bag of its own
        assert torch.equal(batch.means.amin((1, 2)), batch.means.amax((1, 2)))
        assert torch.equal(batch.sizes[:, 0], batch.means[:, 0, 0])
        assert torch.equal(batch.z[:, 0].int(), rows.int())
        counts += np.bincount(named % 10, minlength=4)
    assert np.abs(counts / 2000 - 0.25).max() < 0.04  # four sd


def test_without_further_bags_a_batch_draws_nothing() -> None:
    part = replace(tensors(8, 2), resamples=None)
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    rows = torch.tensor([3, 1])
    batch = part.batch(rows, generator)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(batch.means, part.means[rows])
    assert len(part.tensors()) == 3
    assert len(tensors(8, 2).tensors()) == 5  # which a checkpoint's key is made from
    mean = part.means.mean(dim=1).numpy()
    lone = linear_fit.BagPart(part.means, part.sizes, mean, [str(row) for row in range(8)])
    torch.manual_seed(1)
    expected = torch.get_rng_state()
    assert torch.equal(lone.draw(rows)[0], part.means[rows])
    assert torch.equal(torch.get_rng_state(), expected)


def plan(**own: object) -> dict[str, object]:
    return config.validate({"cohorts": {"mine": {"source": "demo", "settings": own}}})


def test_an_ablation_has_bags_to_train_on_and_the_bases_bags() -> None:
    variants = {"resampled-bags": {"group": "bags", "bags": {"resamples": 10}}}
    base = runs.model_runs(plan(), "mine")[0]
    assert base.resamples() == {}
    for models in (["flow"], ["trnasformer"]):
        own = plan(ablations=variants, models=models, bags={"k": 9})
        run = runs.ablations(own, "mine")["resampled-bags"]
        assert run.encoder == "lite0"
        assert run.resamples() == {"number": "10", "share": "0.5"}
        assert run.settings["bags"]["k"] == 9
        assert run.trained_run == run.name != base.name
    with pytest.raises(ConfigError, match="'k'"):
        plan(ablations={"few": {"bags": {"k": 3}}})


def test_slides_of_one_vector_have_none() -> None:
    own = {"features": {"encoder": "files", "path": "x", "level": "slide"}}
    variants = {"resampled-bags": {"bags": {"resamples": 10}}, "wide": {"model": {"hidden": 64}}}
    assert list(runs.ablations(plan(ablations=variants, **own), "mine")) == ["wide"]
    with pytest.raises(ConfigError, match=r"bags\.resamples: 4: .*features\.level"):
        runs.model_runs(plan(bags={"resamples": 4}, **own), "mine")
