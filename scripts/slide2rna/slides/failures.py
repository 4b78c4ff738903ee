"""Slides that a stage gave up, and whether that is more than the configuration allows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.core.errors import StageError, listing

STAGES = {"slides": "download", "tiles": "tiles", "features": "features"}


def manifests(folder: Path, shards: int | None = None) -> list[Path]:
    """A stage's tables in a folder, those of the first `shards` shards; all by default.

    Where a cohort had more shards before, the tables of the others still lie there. What isn't
    numbered isn't a stage's.
    """
    found = (
        (int(number[1]), path)
        for path in folder.glob("shard-*.parquet")
        if (number := re.fullmatch(r"shard-(\d+)", path.stem))
    )
    return [path for number, path in sorted(found) if shards is None or number < shards]


def failed_slides(folder: Path, encoder: str, shards: int | None = None) -> list[dict[str, str]]:
    """Slides that failed: slide, stage, reason; each at the first stage that gave it up.

    Parameters
    ----------
    folder
        results/<cohort>.
    encoder
        Name of the features. For `files` no slide is tiled, and tables of tiles that lie there
        are an earlier configuration's.
    shards
        Number of shards that the cohort has; None for all tables that there are.
    """
    seen: dict[str, dict[str, str]] = {}
    for stage, name in STAGES.items():
        if (stage, encoder) == ("tiles", "files"):
            continue
        for path in manifests(folder / stage / (encoder if stage == "features" else ""), shards):
            table = pl.read_parquet(path, columns=["slide_id", "status", "reason"])
            for slide, _, reason in table.filter(pl.col("status") != "ok").iter_rows():
                seen.setdefault(slide, {"slide": slide, "stage": name, "reason": reason or ""})
    return sorted(seen.values(), key=lambda row: row["slide"])


def check_failures(
    where: Path, slides: Sequence[str], reasons: Iterable[object], allowed: int
) -> None:
    """Stop where more slides failed than the configuration allows.

    Raises
    ------
    StageError
        Names the first slides, the first reasons and the key.
    """
    if len(slides) > allowed:
        first = "; ".join(str(reason) for reason in list(reasons)[:3])
        raise StageError(
            where,
            f"{len(slides)} slides failed ({listing(list(slides), 10)}): {first}",
            f"mend or leave them out, or raise max_failed_slides (now {allowed})",
        )


def was_lost(row: Mapping[str, Any]) -> bool:
    """Whether a slide that failed isn't there any more, though it was when it was checked."""
    return row["path"] is not None and not Path(row["path"]).is_file()


def stop_if_lost(shard: str | Path, lost: Sequence[str]) -> None:
    """Refuse to count slides as failed that went away in mid-run: a disk may have gone with them.

    Raises
    ------
    StageError
        There are any. No manifest is written then, so the same command tries them again.
    """
    if lost:
        raise StageError(
            shard,
            f"slides that were there are gone: {listing(lost)}",
            "bring them back (is their disk there?) and run the same command again, or let them "
            "fail: raise max_failed_slides and add --forcerun download",
        )
