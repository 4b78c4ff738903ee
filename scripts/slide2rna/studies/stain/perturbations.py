"""Perturbations of a tile by staining, scanning and compression, one at a time.

The kinds are those of GeneVAR's counterfactuals (colour, contrast, sharpness), with the two dyes
separate; the strengths are roughly the differences between laboratories and scanners.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from skimage.color import rgb2hed, rgb2yiq, rgb_from_hed, yiq2rgb

Tile = NDArray[np.uint8]

DYES = {"hematoxylin": 0, "eosin": 1}
# Optical density of skimage's stain vectors: it divides by the log of its smallest value.
DENSITY = -np.log(1e-6)
# Strengths by kind; 1 (a factor), 0 (hue, sharpness) and 100 (JPEG) would change nothing.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "contrast": (0.7, 1.3),
    "brightness": (0.85, 1.15),
    "saturation": (0.6, 1.4),
    "hue": (-0.03, 0.03),
    "hematoxylin": (0.7, 0.85, 1.15, 1.3),
    "eosin": (0.7, 0.85, 1.15, 1.3),
    "sharpness": (-2.0, -1.0, 1.0, 2.0),
    "jpeg": (70, 30),
}
UNITS = {
    "contrast": "factor about the tile's mean grey",
    "brightness": "factor",
    "saturation": "factor",
    "hue": "turns of the chroma plane (YIQ)",
    "hematoxylin": "factor on the dye's density",
    "eosin": "factor on the dye's density",
    "sharpness": "below 0 blur, sigma in px; above 0 unsharp mask, radius 2 px, in units of 100 %",
    "jpeg": "quality",
}


def perturb(tile: Tile, kind: str, strength: float) -> Tile:
    """Change a tile (h, w, 3) in one way.

    Parameters
    ----------
    kind : a key of `STRENGTHS`.
    strength : in the kind's `UNITS`.
    """
    if kind in DYES:
        return dye(tile, DYES[kind], strength)
    return _KINDS[kind](tile, strength)


def dye(tile: Tile, channel: int, factor: float) -> Tile:
    """Multiply one dye's density in the tile by `factor`; channel 0 is hematoxylin, 1 eosin.

    Densities are those of colour deconvolution (Ruifrok and Johnston 2001, skimage's rgb2hed).
    Only the difference is added, so that the residual of the three stains stays, and a factor of 1
    changes nothing: rgb2hed and back isn't the identity, since negative densities are lost.
    """
    light = tile / 255.0
    change = (factor - 1) * rgb2hed(light)[..., channel, None] * rgb_from_hed[channel]
    return _to_bytes(light * np.exp(-DENSITY * change))


def _rotate_hue(tile: Tile, turns: float) -> Tile:
    # Rotation of the chroma in YIQ: a tenth of HSV's time, and no jumps between its sectors.
    sine, cosine = np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)
    yiq = rgb2yiq(tile)
    yiq[..., 1:] = yiq[..., 1:] @ np.array([[cosine, sine], [-sine, cosine]])
    return _to_bytes(yiq2rgb(yiq))


def _change_sharpness(tile: Tile, strength: float) -> Tile:
    kernel: ImageFilter.Filter = ImageFilter.GaussianBlur(-strength)
    if strength > 0:
        kernel = ImageFilter.UnsharpMask(radius=2, percent=round(100 * strength), threshold=0)
    return np.asarray(Image.fromarray(tile).filter(kernel))


def _compress_jpeg(tile: Tile, quality: float) -> Tile:
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _enhancement(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Callable[..., Tile]:
    return lambda tile, factor: np.asarray(enhancer(Image.fromarray(tile)).enhance(factor))


def _to_bytes(light: NDArray[np.floating]) -> Tile:
    return np.asarray(np.clip(np.round(light * 255), 0, 255), dtype=np.uint8)


_KINDS: dict[str, Callable[[Tile, float], Tile]] = {
    "contrast": _enhancement(ImageEnhance.Contrast),
    "brightness": _enhancement(ImageEnhance.Brightness),
    "saturation": _enhancement(ImageEnhance.Color),
    "hue": _rotate_hue,
    "sharpness": _change_sharpness,
    "jpeg": _compress_jpeg,
}
