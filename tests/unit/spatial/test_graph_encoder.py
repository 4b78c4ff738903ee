"""Graph encoder: equal to a dense loop, blind to order and place, and really using its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slide2rna.spatial import graph
from slide2rna.spatial.graph_encoder import GraphEncoder, NeighbourAttention, edge_facts

SPOTS, DIM, HIDDEN, HEADS = 40, 6, 16, 4
RNG = np.random.default_rng(2)
XY = RNG.uniform(size=(SPOTS, 2))
FEATURES = RNG.normal(size=(SPOTS, DIM))


def edges_of(xy: np.ndarray, features: np.ndarray) -> tuple[torch.Tensor, ...]:
    made = graph.build(xy)
    facts = [torch.from_numpy(v).float() for v in (made.distance, made.cosine(features))]
    return torch.from_numpy(made.target), torch.from_numpy(made.source), edge_facts(*facts)


@pytest.fixture
def encoder() -> GraphEncoder:
    torch.manual_seed(1)
    return GraphEncoder(DIM, HIDDEN, HEADS, 2, 0.1).eval()


def encoded(encoder: GraphEncoder, xy: np.ndarray, features: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found = encoder(torch.from_numpy(features).float(), *edges_of(xy, features))
    return found.numpy()


def test_a_layer_equals_a_dense_loop() -> None:
    torch.manual_seed(3)
    layer = NeighbourAttention(HIDDEN, HEADS)
    x = torch.randn(SPOTS, HIDDEN)
    target, source, facts = edges_of(XY, FEATURES)
    q, k, v = layer.qkv(layer.norm(x)).view(SPOTS, 3, HEADS, -1).unbind(1)
    bias, rows = layer.bias(facts), []
    for spot in range(SPOTS):
        mine = torch.nonzero(target == spot).ravel()
        columns = [spot, *source[mine].tolist()]
        heads = []
        for head in range(HEADS):
            scores = torch.stack([q[spot, head] @ k[j, head] for j in columns])
            scores = scores / (HIDDEN // HEADS) ** 0.5
            scores[1:] += bias[mine, head]
            heads.append(scores.softmax(0) @ v[columns, head])
        rows.append(torch.cat(heads))
    wanted = layer.out(torch.stack(rows))
    torch.testing.assert_close(layer(x, target, source, facts), wanted, atol=1e-5, rtol=1e-5)


def test_the_order_of_the_spots_does_not_matter(encoder: GraphEncoder) -> None:
    order = RNG.permutation(SPOTS)
    found = encoded(encoder, XY[order], FEATURES[order])
    np.testing.assert_allclose(found, encoded(encoder, XY, FEATURES)[order], atol=1e-5)


def test_nor_does_the_place(encoder: GraphEncoder) -> None:
    turned = XY @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + 7
    np.testing.assert_allclose(
        encoded(encoder, turned, FEATURES), encoded(encoder, XY, FEATURES), atol=1e-5
    )


def test_edges_change_the_output(encoder: GraphEncoder) -> None:
    target, source, facts = edges_of(XY, FEATURES)
    x = torch.from_numpy(FEATURES).float()
    with torch.no_grad():
        plain = encoder(x, target, source, facts)
        noise = encoder(x, target, source, torch.randn_like(facts))
        elsewhere = encoder(x, target, source.flip(0), facts)
    assert (plain - noise).abs().max() > 1e-3
    assert (plain - elsewhere).abs().max() > 1e-3


def test_far_spots_change_nothing_beyond_the_layers(encoder: GraphEncoder) -> None:
    """On a line, a spot sees two neighbours on each side per layer at most."""
    line = np.column_stack([np.arange(SPOTS), np.zeros(SPOTS)]).astype(float)
    changed = FEATURES.copy()
    changed[-1] += 5
    before, after = encoded(encoder, line, FEATURES), encoded(encoder, line, changed)
    np.testing.assert_array_equal(before[:-5], after[:-5])
    assert np.abs(before[-2] - after[-2]).max() > 1e-3


def test_isolated_spots_and_no_layers() -> None:
    alone = GraphEncoder(DIM, HIDDEN, HEADS, 2, 0.0).eval()
    empty = torch.zeros(0, dtype=torch.int64)
    x = torch.from_numpy(FEATURES).float()
    found = alone(x, empty, empty, torch.zeros(0, 2))
    torch.testing.assert_close(found[3:4], alone(x[3:4], empty, empty, torch.zeros(0, 2)))
    assert torch.isfinite(found).all()
    flat = GraphEncoder(DIM, HIDDEN, HEADS, 0, 0.0).eval()
    assert flat(x, *edges_of(XY, FEATURES)).shape == (SPOTS, HIDDEN)
