"""Plain images: a TIFF, JPEG or PNG that OpenSlide doesn't read, decoded as a whole.

Only files that are named as such are opened. Many vendors' containers hold a small preview that an
image library would take for the slide.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from slide2rna.core.errors import SlideError
from slide2rna.core.memory import free_bytes
from slide2rna.core.types import Mpp

SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".png")
# Formats of OpenSlide: https://openslide.org/formats/
SLIDE_SUFFIXES = (
    *(".svs", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".dcm"),
)
CONVERT = "convert it to a pyramidal TIFF (bioformats2raw and raw2ometiff, QuPath or libvips)"
REMEDY = "give a slide that OpenSlide reads, or an 8-bit TIFF, JPEG or PNG"
MAX_PX = 2_000_000_000
BYTES_PER_PX = 6  # the decoded image, and its copy as RGB
# Below this, 16-bit pixels are those of a camera with 12 or 14 bits, and nearly black.
MIN_16_BIT = 1 << 14
MICROMETRES = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "\\u00b5m": 1.0, "nm": 1e-3}
MICROMETRES |= {"mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0}
RESOLUTION_UM = {2: 25400.0, 3: 10000.0}  # ResolutionUnit of TIFF 6.0: inch, centimetre


def check_name(path: Path) -> None:
    """Refuse a file that isn't named as a plain image.

    Raises
    ------
    SlideError
        A container whose pixels lie elsewhere, or a format that nothing here reads.
    """
    if path.suffix.lower() == ".vsi":
        folder = f"_{path.stem}_"
        cause = f"a .vsi file holds only a preview; the slide's pixels are in {folder} (.ets)"
        raise SlideError(path, f"{cause}, which OpenSlide doesn't read", CONVERT)
    if path.suffix.lower() in SLIDE_SUFFIXES:
        cause = "neither a slide nor an image: OpenSlide doesn't recognise its content"
        raise SlideError(path, cause, "copy or download it again")
    if path.suffix.lower() not in SUFFIXES:
        cause = "OpenSlide doesn't read it, and its name isn't that of a TIFF, JPEG or PNG"
        raise SlideError(path, cause, CONVERT)


def decode(path: Path) -> np.ndarray:
    """Decode a plain image as RGB uint8 (h, w, 3).

    Raises
    ------
    SlideError
        Not an image, of another pixel type, or too large for the memory.
    """
    stat = path.stat()
    try:
        return _decode(path, stat.st_mtime_ns, stat.st_size)
    except MemoryError as error:
        cause = "the image needs more memory than there is"
        raise SlideError(path, cause, CONVERT) from error


def stated_mpp(path: Path) -> Mpp | None:
    """Return µm per pixel as a TIFF states it (OME, ImageJ, or its resolution), else None."""
    try:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            found = _ome_mpp(tif.ome_metadata) if tif.is_ome else None
            tags = {name: tag.value for name in TAGS if (tag := page.tags.get(name))}
            unit = (tif.imagej_metadata or {}).get("unit")
    except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError):
        return None
    if found is not None or "XResolution" not in tags:
        return found
    pixels, per = tags["XResolution"]
    edge = MICROMETRES.get(str(unit)) if unit else RESOLUTION_UM.get(int(tags.get(TAGS[1], 2)))
    return edge * per / pixels if edge and pixels else None


TAGS = ("XResolution", "ResolutionUnit")


def _ome_mpp(text: str | None) -> Mpp | None:
    """Read PhysicalSizeX of the first image; its unit is µm by default."""
    size = re.search(r'PhysicalSizeX="([0-9.eE+-]+)"', text or "")
    unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', text or "")
    scale = MICROMETRES.get(unit[1]) if unit else 1.0
    return float(size[1]) * scale if size and scale else None


def check_channels(path: Path) -> None:
    """Refuse a TIFF whose pages are single channels, or whose 16 bits aren't used.

    Raises
    ------
    SlideError
        R, G and B are separate pages; pixels of 12 or 14 bits in 16.
    """
    try:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            grey = page.samplesperpixel == 1 and page.photometric in (0, 1)
            deep = page.bitspersample == 16
            pages = [one for one in tif.pages if isinstance(one, tifffile.TiffPage)]
            # Only pixels of the page's own kind say something about its range.
            alike = [one for one in pages if one.bitspersample == 16]
            smallest = min(alike, key=lambda one: one.imagewidth * one.imagelength, default=page)
            if deep:
                _check_pixels(path, smallest.imagewidth * smallest.imagelength)
            highest = int(smallest.asarray().max()) if deep else MIN_16_BIT
    except (tifffile.TiffFileError, OSError, ValueError, KeyError, RuntimeError, IndexError):
        return  # not a TIFF, or one that only OpenSlide reads
    if grey:
        cause = "its pages are single channels, which are grey"
        raise SlideError(path, cause, "export it as interleaved 8-bit RGB")
    if highest < MIN_16_BIT:
        cause = f"16-bit pixels with values up to {highest} only (12 or 14 bits of a camera)"
        raise SlideError(path, cause, "convert it to 8-bit RGB")


# Many regions of one cohort can share an image; two images would take too much memory.
@lru_cache(maxsize=1)
def _decode(path: Path, _mtime: int, _size: int) -> np.ndarray:
    """Decode; the file's time and size only serve the cache key."""
    Image.MAX_IMAGE_PIXELS = None  # our limit is checked below; a section at 20x exceeds Pillow's
    try:
        with Image.open(path) as image:
            _check_pixels(path, image.width * image.height)
            if image.mode.startswith(("I", "F")):
                raise SlideError(path, f"pixels of type {image.mode}", REMEDY)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                return np.asarray(on_white(image.convert("RGBA")))
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        pass  # tifffile reads TIFF compressions that Pillow doesn't
    except (OSError, SyntaxError, ValueError) as error:
        raise SlideError(path, f"the image can't be decoded ({error})", REMEDY) from error
    try:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            _check_pixels(path, page.imagewidth * page.imagelength)
            pixels = page.asarray()
    except (tifffile.TiffFileError, ValueError, OSError, KeyError, RuntimeError) as error:
        raise SlideError(path, f"neither a slide nor an image ({error})", REMEDY) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise SlideError(path, f"pixels of shape {pixels.shape}, type {pixels.dtype}", REMEDY)
    return np.ascontiguousarray(pixels[..., :3])


def _check_pixels(path: Path, count: int) -> None:
    if count > MAX_PX:
        cause = f"{count / 1e9:.1f} billion pixels are too many for a plain image"
        raise SlideError(path, cause, CONVERT)
    if count * BYTES_PER_PX > free_bytes():
        cause = f"{count / 1e6:.0f} million pixels need {count * BYTES_PER_PX / 1e9:.1f} GB"
        raise SlideError(path, f"{cause}, more memory than there is", CONVERT)


def on_white(image: Image.Image) -> Image.Image:
    """Return an RGBA image as RGB, its transparency composed on white."""
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=alpha)
    return white
