"""Padded sets: few buckets with little waste, and padding that learns nothing."""

from __future__ import annotations

import numpy as np
import torch
from slide2rna.flow.padded_sets import PaddedSets, partition
from velocity_models import CASES, build, fast, inputs, pathways

torch.set_num_threads(1)


def test_padding_has_no_gradient() -> None:
    model = build(pathways(*CASES["ragged"]))
    layout = model.layout
    assert layout.waste >= 0
    wide = PaddedSets(model.pathways.index, model.pathways.n_genes)
    padded = wide.split(torch.from_numpy(wide.gather == wide.n_genes))
    fast(model, *inputs(model)).square().sum().backward()
    for parameter, zero in zip(model.gene_embedder.first, padded, strict=True):
        assert parameter.grad is not None
        assert not parameter.grad.transpose(1, 2)[zero].any()
    for parameter, zero in zip(model.final_layer.out, padded, strict=True):
        assert parameter.grad is not None
        assert not parameter.grad[zero].any()


def test_partition_is_optimal_and_small() -> None:
    rng = np.random.default_rng(2)
    sizes = np.sort(rng.integers(1, 12, 30))[::-1]

    def cells(ends: list[int]) -> int:
        return sum(
            int(sizes[start]) * (end - start)
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        )

    best = min(cells([i, j, 30]) for i in range(1, 29) for j in range(i + 1, 30))
    found = partition(sizes, 3)
    assert found[-1] == 30
    assert len(found) == 3
    assert cells(found) == best
    assert partition(np.array([4, 4, 4])) == [3]
    many = np.sort(rng.lognormal(3.5, 0.9, 3000).astype(int).clip(10, 500))[::-1]
    assert len(partition(many)) <= 16
    assert (
        1
        - many.sum()
        / sum(
            int(many[s]) * (e - s)
            for s, e in zip([0, *partition(many)[:-1]], partition(many), strict=True)
        )
        <= 0.15
    )
