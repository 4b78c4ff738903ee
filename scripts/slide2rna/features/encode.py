"""Feature vectors of one slide, from its tiles: decoded, checked again and encoded.

Batches never span slides and always hold the same tiles, so results don't depend on timing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageChops

from slide2rna.core.errors import SlideError
from slide2rna.core.log import progress
from slide2rna.core.settings import TilesSettings
from slide2rna.core.types import Px
from slide2rna.features.feature_file import Features
from slide2rna.features.registry import Encoder
from slide2rna.slides.reader import Slide

WHITE, MAX_WHITE = 230, 0.6
AHEAD = 3  # chunks in flight per worker
DECODERS_GPU = 8


@dataclass(frozen=True)
class DecodedTile:
    """Decoded tile: pixels (tile_px, tile_px, 3) uint8, colour (6,), and if the tile is usable."""

    pixels: np.ndarray
    color: np.ndarray
    good: bool


def read_tile(
    slide: Slide, x: int, y: int, level: int, size: int, tile_px: Px, min_contrast: float
) -> DecodedTile:
    """Decode a tile, resample it to exactly `tile_px`, and check it again.

    A tile isn't `good` if its grey values (2nd to 98th percentile) span less than `min_contrast`,
    or if more than 60 % of its pixels are white (all channels >= 230): full resolution doesn't
    confirm the tissue that the overview showed.
    """
    edge = size / slide.downsamples[level]
    whole = max(1, -int(-edge // 1))
    image = slide.read(x, y, level, whole, whole)
    if edge != tile_px:
        image = image.resize(
            (tile_px, tile_px), Image.Resampling.BILINEAR, box=(0.0, 0.0, edge, edge)
        )
    shares = np.cumsum(image.convert("L").histogram()) / tile_px**2
    span = (np.searchsorted(shares, 0.98) - np.searchsorted(shares, 0.02)) / 255
    red, green, blue = image.split()
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    white = sum(darkest.histogram()[WHITE:]) / tile_px**2
    good = bool(span >= min_contrast and white <= MAX_WHITE)
    return DecodedTile(np.asarray(image), color_of(image), good)


def color_of(image: Image.Image) -> np.ndarray:
    """Return mean and sd of R, G and B between 0 and 1, float32 (6,)."""
    histogram = np.asarray(image.histogram()).reshape(3, 256) / (image.width * image.height)
    levels = np.arange(256) / 255
    mean = histogram @ levels
    sd = np.sqrt(np.maximum(histogram @ levels**2 - mean**2, 0))
    return np.concatenate([mean, sd]).astype(np.float32)


@dataclass
class Meter:
    """Speed of extraction: tiles decoded, wall-clock seconds, and the seconds of each batch."""

    tiles: int = 0
    seconds: float = 0.0
    encoding: list[float] = field(default_factory=list)

    def text(self, workers: int) -> str:
        """Return tiles per second, and the share of time that the encoder was busy."""
        if not self.tiles:
            return "nothing to do"
        share = sum(self.encoding) / self.seconds / workers
        return f"{self.tiles / self.seconds:.0f} tiles/s, encoder busy {share:.0%}"


def extract(
    slide: Slide,
    table: pl.DataFrame,
    encoder: Encoder,
    tile_settings: TilesSettings,
    threads: int,
    meter: Meter | None = None,
    label: str | None = None,
) -> Features:
    """Extract the features of one slide's tiles; unusable tiles are left out.

    With a `label`, progress is shown under this name.

    Decoding overlaps inference. If several threads may call the encoder, each worker decodes and
    encodes a chunk; otherwise workers decode ahead of one encoding thread.

    Raises
    ------
    SlideError
        A tile can't be decoded, or none is usable.
    """
    meter = meter or Meter()
    tile_px, contrast = tile_settings["tile_px"], tile_settings["min_contrast"]
    rows = table.select("x", "y", "level", "size").rows()
    chunks = [rows[i : i + encoder.batch] for i in range(0, len(rows), encoder.batch)]
    Decoded = tuple[np.ndarray, np.ndarray, np.ndarray]

    def decode(chunk: list[tuple[int, int, int, int]]) -> Decoded:
        tiles = [(row, read_tile(slide, *row, tile_px, contrast)) for row in chunk]
        good = [(row, tile) for row, tile in tiles if tile.good]
        shape = (len(good), tile_px, tile_px, 3)
        return (
            np.stack([tile.pixels for _, tile in good]) if good else np.empty(shape, np.uint8),
            np.array([tile.color for _, tile in good], np.float32).reshape(-1, 6),
            np.array([row[:2] for row, _ in good], np.int64).reshape(-1, 2),
        )

    def encode(decoded: Decoded) -> Features:
        pixels, color, coords = decoded
        began = time.monotonic()
        empty = np.empty((0, encoder.dim), np.float32)
        features = encoder.encode(pixels, color) if len(pixels) else empty
        meter.encoding.append(time.monotonic() - began)
        return Features(features, coords, color)

    def with_progress(items: Iterator[Any]) -> Iterator[Any]:
        return items if label is None else progress(items, label, len(chunks))

    began = time.monotonic()
    if encoder.parallel:
        parts = list(
            with_progress(_run_ahead(lambda chunk: encode(decode(chunk)), chunks, threads))
        )
    else:
        workers = max(threads, DECODERS_GPU if _on_gpu(encoder) else 1)
        parts = [encode(decoded) for decoded in with_progress(_run_ahead(decode, chunks, workers))]
    meter.seconds += time.monotonic() - began
    meter.tiles += len(rows)
    if not sum(len(part.coords) for part in parts):
        raise SlideError(
            slide.path, "none of its tiles is usable at full resolution", "leave the slide out"
        )
    return Features(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.coords for part in parts]),
        np.concatenate([part.color for part in parts if part.color is not None]),
    )


def _on_gpu(encoder: Encoder) -> bool:
    return getattr(getattr(encoder, "device", None), "type", "cpu") == "cuda"


def _run_ahead(work: Callable[[Any], Any], items: list[Any], workers: int) -> Iterator[Any]:
    """Yield results in order, with a bounded number of items in flight."""
    with ThreadPoolExecutor(workers) as pool:
        in_flight: deque[Future[Any]] = deque()
        try:
            for item in items:
                in_flight.append(pool.submit(work, item))
                if len(in_flight) > AHEAD * workers:
                    yield in_flight.popleft().result()
            while in_flight:
                yield in_flight.popleft().result()
        finally:
            for future in in_flight:
                future.cancel()
