"""Windows over the tile grid: which there are, what they hold, and the bags they become."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, SlideError
from slide2rna.maps import windows as map_windows
from slide2rna.maps.windows import WindowShape, bag_blocks, cover, grid_cells, sliding

BAGS = config.defaults("bags", k=5)


def full(columns: int, rows: int) -> np.ndarray:
    y, x = (axis.ravel() for axis in np.mgrid[:rows, :columns])
    return np.stack([x, y], 1)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.sets(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=80),
    window=st.integers(1, 6),
    data=st.data(),
)
def test_windows_are_those_of_a_search_over_all_places(
    cells: set[tuple[int, int]], window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window))
    least = data.draw(st.integers(1, window**2))
    array = np.array(sorted(cells))
    low = array.min(axis=0)
    wanted = set()
    for left in range(low[0] - 30 * stride, 14, stride):
        for top in range(low[1] - 30 * stride, 14, stride):
            inside = ((array >= [left, top]) & (array < [left + window, top + window])).all(axis=1)
            if inside.sum() >= least:
                wanted.add(tuple(np.flatnonzero(inside)))
    shape = WindowShape(window, stride, least)
    if not wanted:
        with pytest.raises(SlideError, match="window"):
            sliding(array, shape)
        return
    found = sliding(array, shape)
    assert len(found) == len(wanted)
    assert {tuple(sorted(one)) for one in found} == wanted


@pytest.mark.parametrize(("window", "stride"), [(4, 1), (4, 2), (6, 3), (3, 3)])
def test_border_tiles_are_in_as_many_windows_as_others(window: int, stride: int) -> None:
    cells = full(13, 11)
    count = cover(sliding(cells, WindowShape(window, stride, 1)), len(cells)).sum(axis=1)
    assert set(count) == {(window // stride) ** 2}


def test_missing_tiles_lie_where_they_are_missing() -> None:
    cells = full(8, 8)
    kept = np.flatnonzero(~((cells[:, 0] == 3) | (cells[:, 1] == 5)))
    for tiles in sliding(cells[kept], WindowShape(3, 1, 2)):
        inside = cells[kept][tiles]
        assert (np.ptp(inside, axis=0) < 3).all()
        assert not ((inside[:, 0] == 3) | (inside[:, 1] == 5)).any()


def test_least_is_a_quarter_unless_given() -> None:
    assert WindowShape.of(8, 2) == WindowShape(8, 2, 16)
    assert WindowShape.of(1, 1).least == 1
    assert WindowShape.of(8, 2, 3).least == 3


@pytest.mark.parametrize(
    ("window", "stride", "least", "option"),
    [
        (0, 1, 1, "--window"),
        (4, 5, None, "--stride"),
        (4, 0, None, "--stride"),
        (4, 1, 17, "tiles"),
    ],
)
def test_numbers_out_of_range(window: int, stride: int, least: int | None, option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        WindowShape.of(window, stride, least)


def test_cells_follow_the_pixels_and_overlap_is_refused() -> None:
    coords = np.array([[1028, 514], [1285, 514], [1028, 771], [1799, 2056]])
    assert grid_cells(coords, 257).tolist() == [[0, 0], [1, 0], [0, 1], [3, 6]]
    with pytest.raises(SlideError, match="257 px"):
        grid_cells(np.vstack([coords, coords[:1] + 20]), 257)


def test_a_bag_has_the_mean_of_its_tiles_and_small_windows_keep_each() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(60, 7)).astype(np.float32)
    windows = [np.arange(4), np.array([9]), np.arange(10, 50)]
    blocks = list(bag_blocks(features, windows, BAGS, 1, 2))
    assert [(one.start, one.stop) for one, _, _ in blocks] == [(0, 2), (2, 3)]
    means = np.concatenate([mean for _, mean, _ in blocks])
    sizes = np.concatenate([size for _, _, size in blocks])
    assert sizes.sum(axis=1).tolist() == [4, 1, 40]
    assert (means[0, :4] == features[:4]).all()
    assert not means[0, 4:].any()
    for row, tiles in enumerate(windows):
        pooled = (means[row] * sizes[row, :, None]).sum(axis=0) / sizes[row].sum()
        assert pooled == pytest.approx(features[tiles].mean(axis=0), abs=1e-5)
    again = np.concatenate([mean for _, mean, _ in bag_blocks(features, windows, BAGS, 1, 3)])
    assert (again == means).all()


def test_a_tile_without_a_window_is_seen_in_the_cover() -> None:
    cells = np.vstack([full(4, 4), [[20, 20]]])
    windows = sliding(cells, WindowShape(4, 2, 4))
    count = map_windows.cover(windows, len(cells)).sum(axis=1)
    assert (count[:16] > 0).all()
    assert count[16] == 0
