"""The same draws whatever the memory, chunks, order, shards and interruptions; only the summary."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from slide2rna.core import config
from slide2rna.data import fold_rows
from slide2rna.flow.velocity import RNAFM
from slide2rna.pathways.membership import Pathways
from slide2rna.sampling import draw as sampling_draw
from slide2rna.sampling import draw_file, draw_summary, fold_draws

torch.set_num_threads(1)
GENES, DRAWS, SLIDES = 40, 13, 6
OPTIONS = config.defaults("sample", draws=DRAWS, steps=2, mean_pairs=2)
PARTS = ["val", "cal", "cal", "test", "test", "test"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def few_knots() -> Iterator[None]:
    """Quantiles of more draws than are kept."""
    with mock.patch.object(draw_summary, "KNOTS", 8):
        yield


@pytest.fixture(scope="module")
def model() -> RNAFM:
    """No weight is zero, so that every part of the network has a say; one gene is constant."""
    torch.manual_seed(0)
    index = [np.arange(i, i + 9) for i in range(0, 28, 4)]
    small = {"hidden": 16, "blocks": 1, "heads": 2, "graph_heads": 2, "cluster_layers": 1}
    sets = Pathways([f"set{i}" for i in range(len(index))], index, GENES)
    found = RNAFM(sets, 10, 5, config.defaults("model", **small))
    with torch.no_grad():
        for parameter in found.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
        found.gene_mean.uniform_(2, 10)
        found.gene_sd.uniform_(0.3, 1.5)
        found.gene_sd[-1] = 0
    return found.eval()


def rows(names: list[int]) -> fold_rows.FoldRows:
    """Slides by number, in this order."""
    slides = [f"slide {i}" for i in names]
    return fold_rows.FoldRows(slides, slides, [PARTS[i] for i in names], slides, np.array(names))


def bags() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    means = rng.standard_normal((SLIDES, 5, 10), dtype=np.float32)
    return means, rng.integers(1, 9, (SLIDES, 5)).astype(np.float32)


def run(model: RNAFM, out: Path, names: list[int], **changes: object) -> zarr.Group:
    meta: dict[str, Any] = {"features": 10, "clusters": 5}
    meta["genes"] = [f"G{i}" for i in range(GENES)]
    fold_draws.sample_fold(
        *(model, meta, bags(), rows(names), OPTIONS | changes, 1, 0, "flow"),
        *(out / "fold-0.zarr", out / "fold-0.parquet", CPU),
    )
    return zarr.open_group(out / "fold-0.zarr", mode="r")


@contextmanager
def sizes(forward: int, chunk: int) -> Iterator[None]:
    """Set rows per forward pass, and draws per chunk of the file."""
    with (
        mock.patch.object(sampling_draw, "CPU_ROWS", forward),
        mock.patch.object(fold_draws, "DRAWS_PER_CHUNK", chunk),
        mock.patch.object(draw_file, "DRAWS_PER_CHUNK", chunk),
    ):
        yield


@contextmanager
def stops_at(call: int) -> Iterator[list[int]]:
    """The call of `draw.draw` with this number is interrupted; yields the calls so far."""
    real, calls = sampling_draw.draw, [0]

    def draw(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with mock.patch.object(sampling_draw, "draw", draw):
        yield calls


@contextmanager
def seen(model: RNAFM) -> Iterator[dict[str, np.ndarray]]:
    """Draws as they are made, in standardised units, before they are rounded for the file."""
    found: dict[str, np.ndarray] = {}
    real = sampling_draw.draw

    def draw(model: RNAFM, image: torch.Tensor, white: torch.Tensor, *rest: Any) -> torch.Tensor:
        z = real(model, image, white, *rest)
        for noise, values in zip(white.numpy(), z.numpy(), strict=True):
            found.update(
                {row.tobytes(): value for row, value in zip(noise, values, strict=True)}  # type: ignore[misc]
            )
        return z

    with mock.patch.object(sampling_draw, "draw", draw):
        yield found


@pytest.fixture(scope="module")
def whole(model: RNAFM) -> Iterator[tuple[dict[str, np.ndarray], pl.DataFrame]]:
    with seen(model) as draws, tempfile.TemporaryDirectory() as folder:
        run(model, Path(folder), list(range(SLIDES)))
        yield dict(draws), pl.read_parquet(Path(folder) / "fold-0.parquet")


def agree(table: pl.DataFrame, other: pl.DataFrame, sd: np.ndarray) -> None:
    """Two summaries are the same within 1e-5 of each gene's sd."""
    keys = ["slide_id", "gene"]
    one, two = (found.sort(keys) for found in (table, other))
    assert one.select(keys).equals(two.select(keys))
    order = [int(name[1:]) for name in one["gene"]]
    scale = np.where(sd > 0, sd, 1)[order, None]
    first, second = (found.drop("slide_id", "part", "gene").to_numpy() for found in (one, two))
    assert np.array_equal(np.isnan(first), np.isnan(second))
    assert np.nanmax(np.abs(first - second) / scale) < 1e-5


@settings(max_examples=10, deadline=None)
@given(
    forward=st.integers(1, 50),
    chunk=st.integers(3, 16),
    order=st.permutations(range(SLIDES)),
    cut=st.integers(0, SLIDES),
    stop=st.integers(1, 12),
    threads=st.integers(1, 2),
)
def test_nothing_but_names_and_seed_matters(
    model: RNAFM,
    whole: tuple[dict[str, np.ndarray], pl.DataFrame],
    forward: int,
    chunk: int,
    order: list[int],
    cut: int,
    stop: int,
    threads: int,
) -> None:
    """Memory, chunks, order of slides, two shards, an interruption and threads, all at once."""
    expected, table = whole
    tables = []
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder, sizes(forward, chunk), seen(model) as draws:
        for shard in (order[:cut], order[cut:]):
            if not shard:
                continue
            out = Path(folder) / str(len(tables))
            try:
                with stops_at(stop):
                    run(model, out, shard)
            except KeyboardInterrupt:
                with sizes(1 + forward // 2, chunk):
                    run(model, out, shard)
            tables.append(pl.read_parquet(out / "fold-0.parquet"))
    torch.set_num_threads(1)
    # Keys are the noise of a draw, bit for bit.
    assert draws.keys() == expected.keys()
    assert len(draws) == DRAWS * sum(part != "val" for part in PARTS)
    for noise, value in draws.items():
        assert np.abs(value - expected[noise]).max() < 1e-5
    agree(pl.concat(tables), table, model.gene_sd.numpy())


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 12), max_size=4), width=st.sampled_from([1, 7, 16, 33]))
def test_noise_is_the_same_in_any_chunk(cuts: list[int], width: int) -> None:
    whole = sampling_draw.noise(1, 0, "a", 12, width, "draws")
    edges = [0, *sorted(cuts), 12]
    parts = [
        sampling_draw.noise(1, 0, "a", end - start, width, "draws", start)
        for start, end in pairwise(edges)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_noise_is_standard_normal() -> None:
    white = sampling_draw.noise(1, 0, "a", 200, 500, "draws").numpy()
    assert abs(white.mean()) < 5 / np.sqrt(white.size)
    assert abs(white.std() - 1) < 5 / np.sqrt(2 * white.size)
    # Draws have streams of their own: as good as uncorrelated.
    r = np.corrcoef(white)[np.triu_indices(200, 1)]
    assert abs(r.std() * np.sqrt(500) - 1) < 0.05


@pytest.mark.parametrize("stop", [2, 5, 6])
def test_goes_on_within_a_slide(model: RNAFM, tmp_path: Path, stop: int) -> None:
    """Draws of more than one chunk: what was drawn of the slide isn't drawn again."""
    everything = [1, 3, 4]
    chunks = len(everything) * 3  # 5 + 5 + 3 draws of a slide
    with sizes(4, 5):
        expected = run(model, tmp_path / "whole", everything)
        with stops_at(stop) as calls:
            with pytest.raises(KeyboardInterrupt):
                run(model, tmp_path / "cut", everything)
            assert not (tmp_path / "cut" / "fold-0.zarr").exists()
            found = run(model, tmp_path / "cut", everything, memory_mb=4000)
    assert calls[0] == chunks + 1
    for name in ("draws", "mean", "sd", "point"):
        assert np.array_equal(np.asarray(found[name]), np.asarray(expected[name]), equal_nan=True)
    assert expected["draws"].chunks[1] == 5  # type: ignore[union-attr]
    one, two = (pl.read_parquet(tmp_path / name / "fold-0.parquet") for name in ("whole", "cut"))
    assert one.equals(two)
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == [
        *("fold-0.parquet", "fold-0.zarr")
    ]
    assert float(str(found.attrs["draw_seconds"])) > 0


def test_another_slide_is_not_gone_on_with(model: RNAFM, tmp_path: Path) -> None:
    """What an interrupted run with other settings left of a slide is forgotten."""
    with sizes(4, 5):
        with stops_at(2), pytest.raises(KeyboardInterrupt):
            run(model, tmp_path, [1, 3])
        found = run(model, tmp_path, [1, 3], steps=1)
        expected = run(model, tmp_path / "new", [1, 3], steps=1)
    assert np.array_equal(np.asarray(found["draws"]), np.asarray(expected["draws"]))


def test_summary_alone(model: RNAFM, tmp_path: Path) -> None:
    """The same tables and arrays without the draws, and a refusal to mix the two."""
    everything = list(range(SLIDES))
    kept = run(model, tmp_path / "draws", everything)
    with stops_at(3), pytest.raises(KeyboardInterrupt), sizes(4, 512):
        run(model, tmp_path / "summary", everything)
    alone = run(model, tmp_path / "summary", everything, keep="summary")
    assert set(kept.array_keys()) - set(alone.array_keys()) == {"draws"}
    for name in alone.array_keys():
        one, two = np.asarray(alone[name]), np.asarray(kept[name])
        assert one.dtype == np.float32
        assert np.array_equal(one, two, equal_nan=True)
    tables = [pl.read_parquet(tmp_path / name / "fold-0.parquet") for name in ("draws", "summary")]
    assert tables[0].equals(tables[1])
    val = tables[0].filter(pl.col("part") == "val")
    assert val["mean"].is_nan().all()
    assert val["q50"].is_nan().all()
    assert val["point"].is_finite().all()
    drawn = tables[0].filter(pl.col("part") != "val")
    ordered = drawn.select("q05", "q10", "q25", "q50", "q75", "q90", "q95").to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()
    assert (drawn.filter(pl.col("gene") == f"G{GENES - 1}")["sd"] == 0).all()
