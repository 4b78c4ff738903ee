"""Sampling: noise per slide, chunks, restart, units, and the files that are left."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import flow_cohort
import numpy as np
import polars as pl
import pytest
import torch
import zarr
from slide2rna.core import config
from slide2rna.core.errors import StageError
from slide2rna.data import fold_rows
from slide2rna.features import bag_file
from slide2rna.models import checkpoint
from slide2rna.sampling import draw, fold_draws
from slide2rna.training import fit

torch.set_num_threads(1)
CPU = torch.device("cpu")
OPTIONS = config.defaults("sample", draws=19, steps=3, mean_pairs=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("cohort")
    cohort = flow_cohort.make(folder, {"train": 12, "val": 3, "cal": 2, "test": 3})
    fit.fit_fold(
        cohort.inputs, folder / "model", flow_cohort.settings(epochs=12, learning_rate=0.02), 1, CPU
    )
    model, meta = checkpoint.load_model(folder / "model")
    bagged = bag_file.load(cohort.inputs.bags)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0)
    return cohort, folder, model, meta, bagged, rows.of("val", "cal", "test")


def run(trained, out: Path, **changes: object) -> zarr.Group:  # type: ignore[no-untyped-def]
    _, _, model, meta, bagged, rows = trained
    arrays = (bagged.means, bagged.sizes)
    fold_draws.sample_fold(
        *(model, meta, arrays, rows, OPTIONS | changes, 1, 0, "flow"),
        *(out / "fold-0.zarr", out / "fold-0.parquet", CPU),
    )
    return zarr.open_group(out / "fold-0.zarr", mode="r")


def test_files(trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    cohort, _, _, meta, _, rows = trained
    group = run(trained, tmp_path)
    draws = np.asarray(group["draws"])
    assert draws.shape == (len(rows.slide_ids), 19, 60)
    assert draws.dtype == np.float16
    # Val ranks genes by the point alone; draws are for cal and test.
    drawn = np.array([part != "val" for part in rows.parts])
    assert np.isnan(draws[~drawn]).all()
    assert draws[drawn].min() >= 0
    assert group.attrs["slide_ids"] == rows.slide_ids
    assert set(rows.parts) == {"val", "cal", "test"}
    assert group.attrs["genes"] == meta["genes"]
    assert (group.attrs["fold"], group.attrs["guidance"]) == (0, 1)
    assert "note" not in group.attrs
    # The gene without variance is its constant, in draws, point and spread.
    assert (draws[drawn][:, :, -1] == 3.25).all()
    assert np.allclose(np.asarray(group["point"])[:, -1], 3.25)
    assert not np.asarray(group["point_spread"])[:, -1].any()
    # Log2 units: near the data, not near 0.
    assert abs(float(draws[drawn][:, :, :-1].mean()) - float(cohort.expression[:, :-1].mean())) < 1

    table = pl.read_parquet(tmp_path / "fold-0.parquet")
    assert table.columns == [
        *("slide_id", "part", "gene", "mean", "sd"),
        *("q05", "q10", "q25", "q50", "q75", "q90", "q95", "point"),
    ]
    assert len(table) == draws.shape[0] * 60
    row = int(np.flatnonzero(drawn)[0])
    one = table.filter(pl.col("slide_id") == rows.slide_ids[row])
    assert one["gene"].to_list() == meta["genes"]
    # With 19 draws, p (n + 1) are whole ranks: 1, 5, 10, 15 and 19.
    ordered = np.sort(draws[row].astype(np.float32), axis=0)
    ranks = {"q05": 1, "q10": 2, "q25": 5, "q50": 10, "q75": 15, "q90": 18, "q95": 19}
    for name, rank in ranks.items():
        # The file's draws are rounded to half precision, those of the table aren't.
        assert np.allclose(one[name].to_numpy(), ordered[rank - 1], rtol=2**-11, atol=1e-6)
    for name, expected in (("mean", ordered.mean(axis=0)), ("sd", ordered.std(axis=0, ddof=1))):
        assert np.allclose(np.asarray(group[name])[row], expected, atol=2e-3)
        assert np.array_equal(one[name].to_numpy(), np.asarray(group[name])[row])
        assert np.isnan(np.asarray(group[name])[~drawn]).all()
    assert 0 < float(str(group.attrs["draw_seconds"])) < 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold-0.parquet", "fold-0.zarr"]


def test_memory_and_order_do_not_matter(trained) -> None:  # type: ignore[no-untyped-def]
    _, _, model, _, bagged, rows = trained
    with torch.inference_mode():
        image = model.encode_image(
            torch.from_numpy(bagged.means[rows.bag]), torch.from_numpy(bagged.sizes[rows.bag])
        )
    x0 = torch.stack([draw.noise(1, 0, name, 19, 60, "draws") for name in rows.slide_ids])
    whole = draw.draw(model, image, x0, OPTIONS)
    for limit in (1, 7, 19, 50):
        assert torch.allclose(draw.draw(model, image, x0, OPTIONS, limit), whole, atol=1e-5)
    swapped = draw.draw(model, image.flip(0), x0.flip(0), OPTIONS).flip(0)
    assert torch.allclose(swapped, whole, atol=1e-5)


def test_noise_is_named() -> None:
    one = draw.noise(1, 0, "a", 4, 5, "draws")
    assert torch.equal(one, draw.noise(1, 0, "a", 4, 5, "draws"))
    for other in (
        (2, 0, "a", "draws"),
        (1, 1, "a", "draws"),
        (1, 0, "b", "draws"),
        (1, 0, "a", "mean"),
    ):
        assert not torch.equal(one, draw.noise(*other[:3], 4, 5, other[3]))


def test_rows_per_chunk_follows_the_budget(trained) -> None:  # type: ignore[no-untyped-def]
    model = trained[2]
    gpu = torch.device("cuda")
    weights = sum(value.nbytes for value in model.state_dict().values())
    small, large = (draw.rows_per_chunk(model, mb, gpu) for mb in (64, 1024))
    assert 1 < small < large
    assert weights + large * draw.row_bytes(model) <= 1024 * 2**20
    assert weights + (large + 1) * draw.row_bytes(model) > 1024 * 2**20
    assert draw.rows_per_chunk(model, 3000, CPU) == draw.CPU_ROWS
    # Python and torch alone are more than that.
    assert draw.rows_per_chunk(model, 64, CPU) == 1


def test_goes_on_after_an_interruption(trained, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(draw, "CPU_ROWS", 19)  # one slide per batch
    whole = run(trained, tmp_path / "whole")
    real, calls = draw.draw, []

    def stops(*args: object, **kwargs: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(draw, "draw", stops)
    with pytest.raises(KeyboardInterrupt):
        run(trained, tmp_path / "cut")
    assert not (tmp_path / "cut" / "fold-0.zarr").exists()
    again = run(trained, tmp_path / "cut")
    drawn = sum(part != "val" for part in trained[5].parts)
    assert len(calls) == 1 + drawn
    for name in ("draws", "point", "point_spread"):
        assert np.array_equal(np.asarray(whole[name]), np.asarray(again[name]), equal_nan=True)
    one, other = (pl.read_parquet(tmp_path / name / "fold-0.parquet") for name in ("whole", "cut"))
    assert one.equals(other)
    # Leftovers of other settings aren't continued.
    calls[:] = []
    with pytest.raises(KeyboardInterrupt):
        run(trained, tmp_path / "cut")
    run(trained, tmp_path / "cut", steps=2)
    assert zarr.open_group(tmp_path / "cut" / "fold-0.zarr").attrs["steps"] == 2
    assert len(calls) == 4 + drawn


def test_guidance_is_noted_and_the_point_has_none(trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plain, guided = run(trained, tmp_path / "1"), run(trained, tmp_path / "2", guidance=2.0)
    assert "no coverage" in str(guided.attrs["note"])
    assert np.array_equal(np.asarray(plain["point"]), np.asarray(guided["point"]))
    assert not np.array_equal(np.asarray(plain["draws"]), np.asarray(guided["draws"]))


def test_other_encoder_is_an_error(trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _, _, model, meta, bagged, rows = trained
    with pytest.raises(StageError, match=r"5 features.* 12"):
        fold_draws.sample_fold(
            *(model, meta, (bagged.means[..., :5], bagged.sizes), rows, OPTIONS, 1, 0, "flow"),
            *(tmp_path / "a.zarr", tmp_path / "a.parquet", CPU),
        )
    assert not list(tmp_path.iterdir())


def test_bags_of_another_k_are_an_error(trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _, _, model, meta, bagged, rows = trained
    k = meta["clusters"]
    with pytest.raises(StageError, match=f"{k - 1} clusters.* {k}"):
        fold_draws.sample_fold(
            *(model, meta, (bagged.means[:, 1:], bagged.sizes[:, 1:]), rows, OPTIONS, 1, 0, "flow"),
            *(tmp_path / "a.zarr", tmp_path / "a.parquet", CPU),
        )


@pytest.mark.parametrize("slides", [1, 2])
def test_bfloat16_draws_are_near(trained, slides: int) -> None:  # type: ignore[no-untyped-def]
    model, bagged = trained[2], trained[4]
    image = model.encode_image(
        torch.from_numpy(bagged.means[:slides]), torch.from_numpy(bagged.sizes[:slides])
    ).detach()
    x0 = torch.randn(slides, 30, model.pathways.n_genes)
    plain, fast = (
        draw.draw(model, image, x0, config.defaults("sample", precision=precision))
        for precision in ("float32", "bfloat16")
    )
    error = float((fast - plain).std() / plain.std())
    assert 0 < error < 0.02


def test_command(trained, tmp_path: Path, repo: Path) -> None:  # type: ignore[no-untyped-def]
    cohort, folder, *_ = trained
    main = runpy.run_path(str(repo / "scripts" / "sample.py"))["main"]
    inputs = cohort.inputs
    main(
        [
            *("--model", str(folder / "model"), "--bags", str(inputs.bags), "--fold", "0"),
            *("--slides", str(inputs.slides), "--splits", str(inputs.splits)),
            *("--out", str(tmp_path / "f.zarr"), "--summary", str(tmp_path / "f.parquet")),
            *("--settings", json.dumps(OPTIONS | {"solver": "exponential"}), "--device", "cpu"),
        ]
    )
    assert zarr.open_group(tmp_path / "f.zarr").attrs["solver"] == "exponential"
    assert len(pl.read_parquet(tmp_path / "f.parquet"))
