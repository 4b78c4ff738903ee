"""Panels: exactly as many genes as asked for, without technical ones, from training spots."""

from __future__ import annotations

import numpy as np
import pytest
from slide2rna.core.errors import StageError
from slide2rna.spatial import graph, panel

RNG = np.random.default_rng(11)
GENES = [f"G{number}" for number in range(40)]


def by_raising_k(values: np.ndarray, usable: np.ndarray, count: int) -> tuple[set[int], int]:
    """Genes in the first K by mean and in the first K by sd, for the first K that is enough."""
    by_mean = usable[np.argsort(-values.mean(axis=0)[usable], kind="stable")]
    by_sd = usable[np.argsort(-values.std(axis=0)[usable], kind="stable")]
    for k in range(1, len(usable) + 1):
        both = set(by_mean[:k].tolist()) & set(by_sd[:k].tolist())
        if len(both) >= count:
            return both, k
    raise AssertionError


@pytest.mark.parametrize("count", [1, 7, 20, 40])
def test_hmhvg_is_the_intersection_of_two_lists(count: int) -> None:
    values = RNG.gamma(RNG.uniform(0.2, 4, 40), 1, size=(60, 40))
    found = panel.hmhvg(values, GENES, count)
    wanted, _ = by_raising_k(values, np.arange(40), count)
    assert len(found) == count
    assert set(found.tolist()) <= wanted
    assert len(wanted) - count <= 1
    assert (np.diff(found) > 0).all()


def test_technical_genes_are_left_out_by_name() -> None:
    names = ["MT-CO1", "RPL3", "RPS27A", "RPLP0", "MTOR", "RPTOR", "MT1A", "HLA-A"]
    assert panel.is_technical(names).tolist() == [True, True, True] + [False] * 5
    values = RNG.normal(size=(20, 8)) + np.arange(8)[::-1] * 3
    assert panel.hmhvg(values, names, 5).tolist() == [3, 4, 5, 6, 7]
    with pytest.raises(StageError, match="5 genes are usable, 6"):
        panel.hmhvg(values, names, 6)


def test_svg_are_the_genes_with_structure() -> None:
    xy = np.stack(np.divmod(np.arange(100), 10), axis=1).astype(float)
    weights = graph.build(xy).weights
    values = RNG.normal(size=(100, 6))
    values[:, [1, 4]] += 3 * xy
    flat = values.copy()
    flat[:, 4] = 2  # without variance in one slide
    assert panel.svg([values, values], [weights] * 2, GENES[:6], 2).tolist() == [1, 4]
    assert panel.svg([values, flat], [weights] * 2, GENES[:6], 1).tolist() == [1]


def test_seen_genes() -> None:
    counts = np.zeros((20, 3), dtype=np.int64)
    counts[:2, 1] = 5
    counts[:, 2] = 1
    assert panel.seen(counts).tolist() == [1, 2]
