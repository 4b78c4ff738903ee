"""Failed slides: their list, and the limit that the configuration sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from slide2rna.core.errors import SlideError, StageError, list_names
from slide2rna.core.rows import FailedSlide
from slide2rna.storage import parquet

STAGES = {"slides": "download", "tiles": "tiles", "features": "features"}


def manifests(folder: Path, shards: int | None = None) -> list[Path]:
    """Return a stage's tables in a folder: those of the first `shards` shards, by default all.

    A cohort that had more shards before leaves their tables behind. A file without a shard number
    is not a stage's table.
    """
    numbered = (
        (int(number[1]), path)
        for path in folder.glob("shard-*.parquet")
        if (number := re.fullmatch(r"shard-(\d+)", path.stem))
    )
    return [path for number, path in sorted(numbered) if shards is None or number < shards]


def failed_slides(folder: Path, encoder: str, shards: int | None = None) -> list[FailedSlide]:
    """Return the failed slides, each with the first stage that failed and its reason.

    Parameters
    ----------
    folder
        results/<cohort>.
    encoder
        Name of the encoder. For `files` no slide is tiled; tile tables in the folder are from an
        earlier configuration.
    shards
        Number of the cohort's shards; None for all tables in the folder.
    """
    failed: dict[str, FailedSlide] = {}
    for stage, name in STAGES.items():
        if (stage, encoder) == ("tiles", "files"):
            continue
        for path in manifests(folder / stage / (encoder if stage == "features" else ""), shards):
            table = parquet.read(path, columns=["slide_id", "status", "reason"])
            for slide, _, reason in table.filter(pl.col("status") != "ok").iter_rows():
                failed.setdefault(slide, {"slide": slide, "stage": name, "reason": reason or ""})
    return sorted(failed.values(), key=lambda row: row["slide"])


def check_failures(
    where: Path, slides: Sequence[str], reasons: Iterable[object], allowed: int
) -> None:
    """Raise an error if more slides failed than the configuration allows.

    Raises
    ------
    StageError
        Names the first slides, the first reasons and the key to change.
    """
    if len(slides) > allowed:
        first = "; ".join(str(reason) for reason in list(reasons)[:3])
        raise StageError(
            where,
            f"{len(slides)} slides failed ({list_names(list(slides), 10)}): {first}",
            f"fix them or leave them out, or raise max_failed_slides (now {allowed})",
        )


@contextmanager
def within_memory(slide: object) -> Iterator[None]:
    """Turn a lack of memory into the failure of one slide, so that the others go on.

    Raises
    ------
    SlideError
        Work on the slide needs more memory than the job has.
    """
    try:
        yield
    except MemoryError as error:
        cause = "it needs more memory than the job has"
        remedy = "give the job more memory (mem_mb), or leave the slide out"
        raise SlideError(slide, cause, remedy) from error


def check_lost(shard: str | Path, lost: Sequence[str]) -> None:
    """Raise an error if slides vanished or changed during the run, since they didn't fail.

    Raises
    ------
    StageError
        A slide is lost. No manifest is written, so that a rerun tries the slides again.
    """
    if lost:
        raise StageError(
            shard,
            f"slides have disappeared or changed: {list_names(lost)}",
            "bring them back (is their disk mounted?) and rerun the same command, which checks "
            "changed slides again; to let lost ones fail, raise max_failed_slides and add "
            "--forcerun download",
        )
