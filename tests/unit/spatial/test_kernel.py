"""Spatial kernel and fields: known laws come back, and every entry keeps unit variance."""

from __future__ import annotations

import numpy as np
import pytest
from slide2rna.spatial import fields, kernel

XY = np.stack(np.divmod(np.arange(400), 20), axis=1) * 200.0
PITCH = 200.0


@pytest.mark.parametrize(("share", "length"), [(0.6, 2.0), (0.3, 1.0), (0.9, 4.0)])
def test_a_known_kernel_is_found(share: float, length: float) -> None:
    truth = kernel.SpatialKernel(share, length)
    rng = np.random.default_rng(1)
    slides = [truth.root(XY, PITCH) @ rng.standard_normal((400, 300)) for _ in range(4)]
    found = kernel.fit(slides, [XY] * 4, [PITCH] * 4)
    assert found.share == pytest.approx(share, abs=0.05)
    assert found.length == pytest.approx(length, rel=0.15)


def test_noise_without_structure_gives_no_kernel() -> None:
    rng = np.random.default_rng(2)
    found = kernel.fit([rng.standard_normal((400, 300))], [XY], [PITCH])
    assert found.share < 0.02
    lone = kernel.fit([rng.standard_normal((2, 9))], [np.array([[0, 0], [9e9, 0]])], [1.0])
    assert lone == kernel.WHITE


def test_distance_alone_matters() -> None:
    made = kernel.SpatialKernel(0.5, 2.0)
    turned = XY @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + 5000
    np.testing.assert_allclose(made.matrix(turned, PITCH), made.matrix(XY, PITCH), atol=1e-12)
    assert made.matrix(XY, PITCH)[0, 1] == pytest.approx(0.5 * np.exp(-0.5))
    assert np.diag(made.matrix(XY, PITCH)) == pytest.approx(1)


def test_two_spots_at_one_place_have_a_root() -> None:
    twice = np.vstack([XY[:5], XY[:1]])
    root = kernel.SpatialKernel(1.0, 2.0).root(twice, PITCH)
    assert np.isfinite(root).all()


def test_fields_have_both_covariances() -> None:
    rng = np.random.default_rng(3)
    space = kernel.SpatialKernel(0.7, 2.0)
    xy, loadings = XY[:6], rng.uniform(-0.6, 0.6, (4, 2))
    drawn = fields.draw_field(space.root(xy, PITCH), loadings, 60_000, rng).astype(float)
    genes = loadings @ loadings.T
    np.fill_diagonal(genes, 1)
    found = np.einsum("dng,dmh->nmgh", drawn, drawn) / len(drawn)
    wanted = np.einsum("nm,gh->nmgh", space.matrix(xy, PITCH), genes)
    np.testing.assert_allclose(found, wanted, atol=0.025)


def test_the_first_fields_do_not_depend_on_their_number() -> None:
    root, loadings = np.eye(5), np.zeros((3, 1))
    few = fields.draw_field(root, loadings, 2, np.random.default_rng(4))
    many = fields.draw_field(root, loadings, 5, np.random.default_rng(4))
    np.testing.assert_array_equal(few, many[:2])
