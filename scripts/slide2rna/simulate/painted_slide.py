"""Slide of the demo as a file: painted once, and scanned at 20x or 40x."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from slide2rna import STEP_VERSIONS
from slide2rna.core import files
from slide2rna.simulate.mixture_patients import Tissue
from slide2rna.simulate.paint import Plan, paint
from slide2rna.slides import aperio_writer


@dataclass(frozen=True)
class SimulatedSlide:
    """Slide to paint, and its scan; its repr is part of the record of a painted slide."""

    patient_id: str
    plan: Plan
    power: int = 20
    says_mpp: bool = True


def paint_slide(slide: SimulatedSlide, folder: Path, seed: int) -> Tissue:
    """Paint and write one slide, unless it exists; return its tissue as painted (one row)."""
    path = folder / f"{slide.plan.slide_id}.svs"
    note = folder / f"{slide.plan.slide_id}.json"
    key = [STEP_VERSIONS["demo"], seed, repr(slide)]
    record = files.read_record(note)
    if path.exists() and record.get("key") == key:
        return _tissue(record)
    note.unlink(missing_ok=True)  # it would certify the new slide if this run ended in between
    painted = paint(slide.plan, seed)
    rgb, mpp = painted.rgb, 0.5
    if slide.power == 40:
        height, width = rgb.shape[:2]
        image = Image.fromarray(rgb).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
        rgb, mpp = np.asarray(image), 0.25
    if slide.says_mpp:
        aperio_writer.write(path, rgb, mpp=mpp, power=slide.power)
    else:
        aperio_writer.write(path, rgb, mpp=None, power=None)
    record = {
        "key": key,
        "shares": painted.shares.tolist(),
        "state": painted.state,
        "variance": painted.variance,
    }
    files.write_json(record, note)
    files.sweep()  # a process of the pool has no other cleanup
    return _tissue(record)


def _tissue(record: dict[str, object]) -> Tissue:
    """Return the tissue of a slide's record, one row."""
    return Tissue(*(np.array([record[name]]) for name in ("shares", "state", "variance")))
