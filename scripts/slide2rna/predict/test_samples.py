"""Test samples of a run, read from the stored summaries of their slides, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyarrow.parquet import ParquetFile

from slide2rna.core.errors import StageError
from slide2rna.sampling import draw_store
from slide2rna.sampling.draw_summary import DrawStats
from slide2rna.storage import parquet

Rows = NDArray[np.float32]
# Arrays (G,) by name, as in `STATISTICS`.
SampleSummary = dict[str, Rows]

STATISTICS = ("point", "mean", "sd", "q05", "q95")


def read_fold(
    path: Path, samples: set[str], sample_by_slide: dict[str, str], genes: list[str]
) -> Iterator[tuple[str, SampleSummary]]:
    """Yield each of a fold's test samples with its `STATISTICS`, (G,) each.

    Points of a sample's slides are averaged; their draws are pooled in equal shares. The summary
    has a row group per slide, so one slide is in memory at a time.

    Parameters
    ----------
    path : draws/<run>/fold-<k>.parquet; stored draws are next to it.
    samples : names of the test samples.
    sample_by_slide : sample of each slide.
    genes : in the order of the file.

    Raises
    ------
    StageError
        The file is missing, or has other genes.
    """
    if not path.is_file():
        raise StageError(path, "no such file", "run the stage sample")
    groups: dict[str, list[int]] = {}
    slides = []
    with parquet.open_table(path) as source:
        for number in range(source.num_row_groups):
            group = source.metadata.row_group(number)
            # Slide and part are constant in a group, so the column statistics identify it.
            slide, part = (group.column(column).statistics.min for column in (0, 1))
            slides.append(slide)
            if part == "test" and sample_by_slide.get(slide) in samples:
                groups.setdefault(sample_by_slide[slide], []).append(number)
        if source.read_row_group(0, ["gene"])["gene"].to_pylist() != genes:
            cause = "its genes differ from those of genes.parquet"
            raise StageError(path, cause, "rerun the stage evaluate")
        for sample in sorted(groups):
            numbers = groups[sample]
            summaries = [_read_slide(source, number) for number in numbers]
            if len(summaries) == 1:
                yield sample, summaries[0]
                continue
            draws = _read_draws(path.with_suffix(".zarr"), [slides[number] for number in numbers])
            yield sample, _mix_slides(summaries, draws)


def _read_slide(source: ParquetFile, number: int) -> SampleSummary:
    table = source.read_row_group(number, list(STATISTICS))
    return {name: table[name].to_numpy().astype(np.float32) for name in STATISTICS}


def _mix_slides(
    summaries: Sequence[SampleSummary], slide_draws: Iterator[Rows] | None
) -> SampleSummary:
    """Mix the slides of one sample in equal shares; quantiles need the stored draws."""
    mean, sd, point = (
        np.stack([summary[name] for summary in summaries]) for name in ("mean", "sd", "point")
    )
    centre = mean.mean(axis=0)
    spread = np.sqrt((sd**2 + (mean - centre) ** 2).mean(axis=0))
    pooled = {"point": point.mean(axis=0), "mean": centre, "sd": spread}
    if slide_draws is None:
        missing = np.full(len(centre), np.nan, np.float32)
        return pooled | {"q05": missing, "q95": missing}
    stats = DrawStats(len(centre))
    for draws in slide_draws:
        stats.add(draws)
    quantiles = stats.result()["quantiles"]
    return pooled | {"q05": quantiles[0], "q95": quantiles[-1]}


def _read_draws(path: Path, slides: Sequence[str]) -> Iterator[Rows] | None:
    """Iterate over the draws (D, G) of each slide; None if they weren't stored."""
    if not path.is_dir():
        return None
    store = draw_store.open_draws(path)
    if "draws" not in store:
        return None
    slide_row = {slide: row for row, slide in enumerate(store.attrs["slide_ids"])}  # type: ignore[arg-type]

    def read(slide: str) -> Rows:
        with draw_store.reading(path):
            draws = np.asarray(store["draws"][slide_row[slide]], np.float32)  # type: ignore[index]
        if not np.isfinite(draws).all():
            raise StageError(path, f"draws of {slide} are missing or damaged", draw_store.REMEDY)
        return draws

    return map(read, slides)
