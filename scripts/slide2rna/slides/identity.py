"""Slide identity: one physical slide is one slide, whatever its files are called.

A DICOM slide is a folder of files, each of which opens the whole slide. OpenSlide's quickhash is
the same for all of them, and for a copy under another name.
"""

from __future__ import annotations

from pathlib import Path

import openslide

from slide2rna.core.errors import SlideError

QUICKHASH = "openslide.quickhash-1"


def quickhash(path: str | Path) -> str | None:
    """Return OpenSlide's quickhash of a slide; None if OpenSlide has none or doesn't read it."""
    try:
        with openslide.OpenSlide(path) as slide:
            return slide.properties.get(QUICKHASH)
    except (openslide.OpenSlideError, OSError):
        return None


def slide_file(path: Path) -> Path:
    """Return a slide's file: the path itself, or one file of a folder that is one DICOM slide.

    Raises
    ------
    SlideError
        The folder has other files than DICOM's, or those of several slides.
    """
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    parts = [file for file in files if file.suffix.lower() in (".dcm", ".dicom", "")]
    if not parts or len(parts) != len(files):
        remedy = "give its files one by one, such as *.svs"
        raise SlideError(path, "is a folder, and not one DICOM slide", remedy)
    hashes = {file: found for file in parts if (found := quickhash(file))}
    if not hashes:
        raise SlideError(
            path, "OpenSlide reads none of the folder's files", "check its DICOM files"
        )
    if len(set(hashes.values())) > 1:
        cause = f"the folder has files of {len(set(hashes.values()))} slides"
        raise SlideError(path, cause, "give a folder per slide, or one file of each slide")
    return min(hashes)
