"""Means of top scores against loops, with gradients, and for few clusters."""

from __future__ import annotations

import pytest
import torch
from slide2rna.models import pooling
from small_networks import G, K, bag, slow_top_mean


@pytest.mark.parametrize("ks", [[1], [3], [6], [1, 6], [2, 3, 5]])
def test_top_mean_against_loops_with_gradients(ks: list[int]) -> None:
    _, sizes = bag()
    scores = torch.randn(3, K, G, dtype=torch.double, requires_grad=True)
    fast, slow = pooling.top_mean(scores, sizes > 0, ks), slow_top_mean(scores, sizes > 0, ks)
    torch.testing.assert_close(fast, slow)
    assert torch.autograd.gradcheck(lambda x: pooling.top_mean(x, sizes > 0, ks), scores)
    half = pooling.top_mean(scores.detach().bfloat16(), sizes > 0, ks)
    torch.testing.assert_close(half.double(), slow.detach(), atol=0.03, rtol=0.03)


def test_ks_for_few_clusters() -> None:
    assert pooling.clip_ks([1, 2, 5, 10, 20, 50, 100], 16) == [1, 2, 5, 10, 16]
    assert pooling.clip_ks([1, 2, 5], 1) == [1]
    assert pooling.clip_ks([1, 2, 5, 10, 20, 50, 100], 100) == [1, 2, 5, 10, 20, 50, 100]
