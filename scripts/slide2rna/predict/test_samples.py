"""Test samples of a run from the stored summaries of their slides, one sample at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from pyarrow import parquet

from slide2rna.core.errors import StageError
from slide2rna.sampling.draw_summary import DrawStats

Rows = NDArray[np.float32]

STORED = ("point", "mean", "sd", "q05", "q95")


def of_fold(
    path: Path, wanted: set[str], owner: dict[str, str], genes: list[str]
) -> Iterator[tuple[str, dict[str, Rows]]]:
    """Each wanted test sample of a fold, with what `STORED` names, (G,) each.

    Points of a sample's slides are averaged; their draws are pooled in equal shares. The summary
    has a row group per slide, so one slide is in memory at a time.

    Parameters
    ----------
    path : draws/<run>/fold-<k>.parquet; the draws themselves, if kept, lie beside it.
    wanted : sample names.
    owner : sample of each slide.
    genes : in the order of the file.

    Raises
    ------
    StageError
        The file is missing, or is of other genes.
    """
    if not path.is_file():
        raise StageError(path, "no such file", "run the stage sample")
    source = parquet.ParquetFile(path)
    groups: dict[str, list[int]] = {}
    slides = []
    for number in range(source.num_row_groups):
        ends = source.metadata.row_group(number)
        # Statistics of the two columns that are constant in a group say what it is of.
        slide, part = (ends.column(column).statistics.min for column in (0, 1))
        slides.append(slide)
        if part == "test" and owner.get(slide) in wanted:
            groups.setdefault(owner[slide], []).append(number)
    if source.read_row_group(0, ["gene"])["gene"].to_pylist() != genes:
        raise StageError(path, "its genes differ from those of genes.parquet", "evaluate anew")
    for sample in sorted(groups):
        rows = groups[sample]
        found = [_slide(source, number) for number in rows]
        if len(found) == 1:
            yield sample, found[0]
            continue
        drawn = _draws(path.with_suffix(".zarr"), [slides[number] for number in rows])
        yield sample, _mixture(found, drawn)


def _slide(source: parquet.ParquetFile, number: int) -> dict[str, Rows]:
    table = source.read_row_group(number, list(STORED))
    return {name: table[name].to_numpy().astype(np.float32) for name in STORED}


def _mixture(found: Sequence[dict[str, Rows]], drawn: Iterator[Rows] | None) -> dict[str, Rows]:
    """Slides of one sample in equal shares; quantiles need the draws themselves."""
    mean, sd, point = (np.stack([one[name] for one in found]) for name in ("mean", "sd", "point"))
    centre = mean.mean(axis=0)
    spread = np.sqrt((sd**2 + (mean - centre) ** 2).mean(axis=0))
    pooled = {"point": point.mean(axis=0), "mean": centre, "sd": spread}
    if drawn is None:
        nothing = np.full(len(centre), np.nan, np.float32)
        return pooled | {"q05": nothing, "q95": nothing}
    stats = DrawStats(len(centre))
    for draws in drawn:
        stats.add(draws)
    quantiles = stats.result()["quantiles"]
    return pooled | {"q05": quantiles[0], "q95": quantiles[-1]}


def _draws(path: Path, slides: Sequence[str]) -> Iterator[Rows] | None:
    """Draws (D, G) of each slide, one after the other; None where they weren't kept."""
    if not path.is_dir():
        return None
    store = zarr.open_group(path, mode="r")
    if "draws" not in store:
        return None
    place = {slide: row for row, slide in enumerate(store.attrs["slide_ids"])}  # type: ignore[arg-type]
    return (np.asarray(store["draws"][place[slide]], np.float32) for slide in slides)  # type: ignore[index]
