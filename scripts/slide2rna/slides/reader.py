"""Slide reader: a whole-slide image through OpenSlide, or a plain TIFF, JPEG or PNG.

Pixels are RGB uint8; transparency is composed on white. Positions are always in pixels of level 0,
sizes in pixels of the level that is read (OpenSlide's convention).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from PIL import Image

from slide2rna.core.errors import SlideError
from slide2rna.core.log import log
from slide2rna.core.types import Mpp
from slide2rna.slides import plain_image

MPP_RANGE = (0.05, 2.0)
MPP_TOLERANCE = 0.2  # sheet against file; scanners are accurate to 2 %
POWER_RANGE = (0.7, 1.4)  # mpp x power / 10; scanners of one power range from 0.88 to 1.1
SQUARE_TOLERANCE = 0.05
MAX_OVERVIEW_PX = 20_000_000_000
STRIP_PX = 16_000_000
GIVE_MPP = "give mpp (micrometres per pixel) for it, in the sheet or by --mpp"


@dataclass(frozen=True)
class Resolution:
    """Micrometres per level-0 pixel, the number's source, and a note on any contradiction."""

    mpp: Mpp
    source: str
    note: str | None = None


class Slide:
    """One open slide; use it as a context manager.

    Attributes
    ----------
    size : tuple of int
        Width and height of level 0, px.
    downsamples : tuple of float
        Level-0 pixels per pixel of each level, increasing from 1.
    resolution : Resolution
    power : float or None
        Objective power as the file states it.
    vendor : str
        OpenSlide's vendor, or ``plain``.
    """

    def __init__(
        self, path: Path, reader: openslide.OpenSlide | np.ndarray, mpp: Mpp | None
    ) -> None:
        self.path = path
        self._reader = reader
        if isinstance(reader, np.ndarray):
            self.size: tuple[int, int] = (reader.shape[1], reader.shape[0])
            self.downsamples: tuple[float, ...] = (1.0,)
            self.power: float | None = None
            self.vendor = "plain"
            self.resolution = resolve_mpp(path, mpp, plain_image.stated_mpp(path), None)
        else:
            self.size = reader.dimensions
            self.downsamples = tuple(reader.level_downsamples)
            self.power = _number(reader.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))
            self.vendor = reader.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
            self.resolution = resolve_mpp(path, mpp, _file_mpp(path, reader, mpp), self.power)

    @property
    def mpp(self) -> float:
        """Micrometres per level-0 pixel."""
        return self.resolution.mpp

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level with at least the resolution of `downsample`.

        A level up to 1 % too coarse is accepted: 4.0002 is meant to be 4.
        """
        fits = [i for i, d in enumerate(self.downsamples) if d <= downsample * 1.01]
        return max(fits, key=lambda i: self.downsamples[i], default=0)

    def read(self, x: int, y: int, level: int, width: int, height: int) -> Image.Image:
        """Read a region as an RGB image; pixels outside the slide are white.

        Parameters
        ----------
        x, y : int
            Top left corner, level-0 px.
        level : int
        width, height : int
            Size in px of that level.

        Raises
        ------
        SlideError
            The region can't be decoded. OpenSlide then refuses every further read.
        """
        if isinstance(self._reader, np.ndarray):
            canvas = np.full((height, width, 3), 255, np.uint8)
            part = self._reader[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
            top, left = max(-y, 0), max(-x, 0)
            canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
            return Image.fromarray(canvas)
        try:
            image = self._reader.read_region((x, y), level, (width, height))
        except openslide.OpenSlideError as error:
            raise SlideError(
                self.path,
                f"the region at x={x}, y={y} of level {level} can't be decoded ({error})",
                "copy or download the slide again, or leave it out",
            ) from error
        return plain_image.on_white(image)

    def overview(self, um_px: Mpp) -> tuple[np.ndarray, float]:
        """Return the whole slide at about `um_px`, read from the coarsest sufficient level.

        Pixels are averaged by an integer factor, in strips, so that memory stays bounded for a
        slide without coarse levels.

        Returns
        -------
        rgb : ndarray of uint8, shape (h, w, 3)
        downsample : float
            Level-0 px per overview px; at most ``um_px / mpp``, or 1.
        """
        target = um_px / self.mpp
        level = self.level_for(target)
        scale = self.downsamples[level]
        factor = max(1, int(target / scale * 1.01))
        width, height = (max(1, int(edge / scale + 1e-6)) for edge in self.size)
        if width * height > MAX_OVERVIEW_PX:
            cause = (
                f"it has no coarse level: an overview reads {width * height / 1e9:.0f} billion "
                f"pixels, at most {MAX_OVERVIEW_PX / 1e9:.0f} are read"
            )
            raise SlideError(self.path, cause, plain_image.CONVERT)
        factor = min(factor, width, height)
        rows = max(1, STRIP_PX // (width * factor)) * factor
        strips = []
        for top in range(0, height // factor * factor, rows):
            count = min(rows, height // factor * factor - top)
            strip = self.read(0, round(top * scale), level, width // factor * factor, count)
            strips.append(np.asarray(strip.reduce(factor) if factor > 1 else strip))
        return np.concatenate(strips), scale * factor

    def close(self) -> None:
        if not isinstance(self._reader, np.ndarray):
            self._reader.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_slide(path: str | Path, mpp: Mpp | None = None) -> Slide:
    """Open a slide or a plain image.

    Parameters
    ----------
    path : path
        Anything OpenSlide reads, or a plain 8-bit TIFF, JPEG or PNG, named as such.
    mpp : float, optional
        Resolution from the sheet, um/px; it overrides the file's.

    Raises
    ------
    SlideError
        The file is missing or unreadable, or its resolution is unknown or implausible.
    """
    path = Path(path)
    if not path.is_file():
        raise SlideError(path, "no such file", "correct the path in the sheet")
    try:
        vendor = openslide.OpenSlide.detect_format(path)
        if vendor is not None:
            if vendor == "generic-tiff":
                plain_image.check_channels(path)
            return Slide(path, openslide.OpenSlide(path), mpp)
    except (openslide.OpenSlideError, OSError) as error:
        raise SlideError(
            path, f"OpenSlide can't open it ({error})", "copy or download it again"
        ) from error
    plain_image.check_name(path)
    plain_image.check_channels(path)
    return Slide(path, plain_image.decode(path), mpp)


def resolve_mpp(
    path: Path, sheet: float | None, file: float | None, power: float | None
) -> Resolution:
    """Choose the resolution: the sheet's, then the file's; objective power alone is not enough.

    Raises
    ------
    SlideError
        Both are missing, or the number is outside 0.05 to 2 um/px.
    """
    mpp, source = (file, "slide") if sheet is None else (sheet, "sheet")
    if mpp is None:
        hint = f" (power {power:g} suggests about {10 / power:g})" if power else ""
        raise SlideError(path, f"no resolution in the file{hint}", GIVE_MPP)
    low, high = MPP_RANGE
    if not (math.isfinite(mpp) and low <= mpp <= high):
        raise SlideError(path, f"mpp {mpp:g} from the {source} is not in {low} to {high}", GIVE_MPP)
    note = None
    if sheet is not None and file is not None and abs(file / sheet - 1) > MPP_TOLERANCE:
        note = f"the slide itself says {file:g} um/px"
    elif power and not POWER_RANGE[0] < mpp * power / 10 < POWER_RANGE[1]:
        note = f"objective power {power:g} would be about {10 / power:g} um/px"
    if note:
        log.warning("%s: %g um/px from the %s is used, but %s", path, mpp, source, note)
    return Resolution(mpp, source, note)


def _file_mpp(path: Path, reader: openslide.OpenSlide, sheet: float | None) -> float | None:
    x, y = (
        _number(reader.properties.get(name))
        for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    )
    if x is None or y is None:
        return x if y is None else y
    if sheet is None and x > 0 and y > 0 and abs(x / y - 1) > SQUARE_TOLERANCE:
        raise SlideError(path, f"pixels are not square ({x:g} by {y:g} um)", GIVE_MPP)
    return (x + y) / 2


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None
