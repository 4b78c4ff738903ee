"""A cohort from a server with keep_slides: false: the same bags, and no slide is left on disk."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml
from gdc_server import GdcServer
from polars.testing import assert_frame_equal
from small_luad import PATIENTS, fill, run, split

GOALS = ("bags/color.safetensors", "guard.json")


@pytest.mark.timeout(3600)
def test_bags_are_the_same_and_slides_are_gone(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    split(tmp_path / "split.tsv")
    with GdcServer(page_limit=50) as server:
        fill(server, tmp_path / "made")
        for name, keep in (("kept", True), ("thrown", False)):
            changes = {"LUAD": {"keep_slides": keep, "downloads": 2}}
            more = tmp_path / f"{name}.yaml"
            more.write_text(yaml.safe_dump({"results": str(tmp_path / name), "cohorts": changes}))
            goals = [tmp_path / name / "LUAD" / goal for goal in GOALS]
            run(repo, tmp_path, server.url, str(more), "--", *map(str, goals))
    kept, thrown = (tmp_path / name / "LUAD" for name in ("kept", "thrown"))
    for name in (*GOALS, "splits.tsv"):
        assert (kept / name).read_bytes() == (thrown / name).read_bytes()
    for stage in ("tiles", "features/color"):
        table = Path(stage) / "shard-0.parquet"
        assert_frame_equal(pl.read_parquet(kept / table), pl.read_parquet(thrown / table))
    slides = [path for path in (thrown / "slides").rglob("*.svs*") if path.is_file()]
    assert slides == []
    assert len(list((kept / "slides" / "files").iterdir())) == PATIENTS + 1
    assert len(list((thrown / "tiles").glob("*.jpg"))) == PATIENTS + 1
