"""Resampled bags of a cohort: a file with further bags per slide, written and read by slide.

The file has the layout of safetensors, as the bags file. It is n times as large, so no job holds
all of it in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slide2rna import STEP_VERSIONS
from slide2rna.core import seal
from slide2rna.core.errors import StageError
from slide2rna.core.files import atomic
from slide2rna.features.bag_file import open_bags
from slide2rna.storage import tensors

Bag = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class ResampleFacts:
    """Metadata of a file of resampled bags.

    Attributes
    ----------
    slide_ids : list of str
        Sorted.
    number : int
        Bags of each slide, n.
    share : float
        Share of a slide's tiles in each.
    shape : (k, d)
    encoder, backend : str
        Name of the features; the library that ran the clustering.
    """

    slide_ids: list[str]
    number: int
    share: float
    shape: tuple[int, int]
    encoder: str
    backend: str = "none"


def save(facts: ResampleFacts, slides: Iterable[Sequence[Bag]], path: Path) -> None:
    """Write means (S, n, k, d) and sizes (S, n, k), atomically.

    Parameters
    ----------
    facts
        Of the file.
    slides
        The n bags of each slide, means (k, d) and sizes (k,), in the order of `facts.slide_ids`.
    """
    rows, (k, d) = (len(facts.slide_ids), facts.number), facts.shape
    sizes = np.zeros((*rows, k), "<f4")
    end = 4 * int(np.prod(rows)) * k * d
    metadata = {
        "slide_ids": json.dumps(facts.slide_ids),
        "encoder": facts.encoder,
        "share": str(facts.share),
        "backend": facts.backend,
        "version": str(STEP_VERSIONS["bags"]),
    }
    header = {
        "__metadata__": tensors.sealed_metadata(metadata),
        "means": {"dtype": "F32", "shape": [*rows, k, d], "data_offsets": [0, end]},
        "sizes": {"dtype": "F32", "shape": [*rows, k], "data_offsets": [end, end + sizes.nbytes]},
    }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with atomic(path) as partial, open(partial, "wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for row, bags in enumerate(slides):
            for number, (means, counts) in enumerate(bags):
                handle.write(np.ascontiguousarray(means, "<f4").tobytes())
                sizes[row, number] = counts
        handle.write(sizes.tobytes())
        handle.flush()
        seal.close(partial)


def read(path: Path, slide_ids: Sequence[str], shape: tuple[int, int]) -> Bag:
    """Read the resampled bags of these slides: means (N, n, k, d) and sizes (N, n, k).

    Raises
    ------
    StageError
        The file is missing or isn't one of bags, lacks a slide, or has bags of another shape
        (k, d) than `shape`.
    """
    ids, stored_means, stored_sizes = open_bags(path)
    row = {name: index for index, name in enumerate(ids)}
    missing = [name for name in slide_ids if name not in row]
    if missing or stored_means.shape[2:] != shape:
        cause = f"no bags of slide '{missing[0]}'" if missing else f"bags not of shape {shape}"
        raise StageError(path, cause, "rerun the stage resample")
    means = np.empty((len(slide_ids), *stored_means.shape[1:]), np.float32)
    sizes = np.empty((len(slide_ids), *stored_sizes.shape[1:]), np.float32)
    for index, name in enumerate(slide_ids):
        means[index], sizes[index] = stored_means[row[name]], stored_sizes[row[name]]
    return means, sizes
