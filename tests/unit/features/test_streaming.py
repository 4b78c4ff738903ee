"""Throw-away mode: the same tables and features as three stages, and few slides on disk."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import polars as pl
import pytest
from fault_server import FaultServer, md5
from polars.testing import assert_frame_equal
from slide2rna.cohort.freeze import SCHEMA
from slide2rna.core import config
from slide2rna.core.errors import ConfigError
from slide2rna.features import extract, registry, streaming
from slide2rna.slides import download, tiles
from slide2rna.transfer import client
from slide_factory import picture, write_slide

COUNT, DOWNLOADS = 7, 3
TILES = config.defaults("tiles", tile_px=64, max_background=0.5)
ENCODER = registry.load(config.defaults("features", encoder="color"))
FAST = client.ServerSettings(parallel=DOWNLOADS, timeout_s=60, tries=3, backoff_s=0.002)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Six good slides, the second of them without known md5, and one that is no slide."""
    folder = tmp_path_factory.mktemp("slides")
    made = {}
    for number in range(COUNT):
        path = write_slide(folder / f"{number}.svs", picture(512, 512, seed=number))
        made[f"/{number}"] = path.read_bytes()
    made["/4"] = b"this is no slide"
    return made


@pytest.fixture
def server(contents: dict[str, bytes]) -> Iterator[FaultServer]:
    with FaultServer(dict(contents)) as running:
        yield running


def cohort(server: FaultServer, folder: Path, own: Path | None = None) -> Path:
    """slides.parquet with one withdrawn slide, and perhaps one of the user's own."""
    rows = []
    for path, content in server.files.items():
        row = {"slide_id": f"S{path[1:]}", "url": server.url(path)}
        if path != "/1":
            row |= {"md5": md5(content), "size": len(content)}
        rows.append(row)
    rows.append({"slide_id": "gone", "url": server.url("/gone"), "md5": "0" * 32, "size": 9})
    if own:
        rows.append({"slide_id": "own", "path": str(own)})
    full = [dict.fromkeys(SCHEMA) | {"patient_id": "P", "unit": "P"} | row for row in rows]
    folder.mkdir()
    pl.DataFrame(full, schema=SCHEMA, orient="row").write_parquet(folder / "slides.parquet")
    return folder


def manifests(folder: Path) -> streaming.ShardManifests:
    stages = ("slides", "tiles", "features/color")
    return streaming.ShardManifests(*(folder / stage / "shard-0.parquet" for stage in stages))


def throw_away(folder: Path, settings: client.ServerSettings = FAST) -> None:
    consumer = streaming.SlideStreamer(manifests(folder), TILES, ENCODER, 1, 1, settings)
    streaming.stream_shard(folder / "slides.parquet", 0, 1, consumer)


def keep(folder: Path) -> None:
    to = manifests(folder)
    download.download_shard(folder / "slides.parquet", 0, 1, to.slides, FAST)
    tiles.tile_shard(to.slides, to.tiles.parent, to.tiles, TILES, 1)
    extract.extract_shard(
        to.slides, to.tiles.parent, to.tiles, to.features.parent, to.features, ENCODER, TILES, 1
    )


def assert_same(kept: Path, thrown: Path) -> None:
    one, other = manifests(kept), manifests(thrown)
    assert_frame_equal(pl.read_parquet(one.tiles), pl.read_parquet(other.tiles))
    assert_frame_equal(pl.read_parquet(one.features), pl.read_parquet(other.features))
    slides = pl.read_parquet(other.slides)
    assert_frame_equal(pl.read_parquet(one.slides).drop("path"), slides.drop("path"))
    assert slides.filter(pl.col("url").is_not_null())["path"].null_count() == COUNT + 1
    names = files_of(kept)
    assert names == files_of(thrown)
    assert len([name for name in names if name.suffix == ".jpg"]) >= COUNT - 1
    for name in names - {Path("tiles/shard-0.parquet"), Path("features/color/shard-0.parquet")}:
        if name.suffix == ".h5":
            with h5py.File(kept / name) as left, h5py.File(thrown / name) as right:
                assert dict(left.attrs) == dict(right.attrs)
                assert all((left[key][:] == right[key][:]).all() for key in left)
        else:
            assert (kept / name).read_bytes() == (thrown / name).read_bytes(), name


def files_of(folder: Path) -> set[Path]:
    made = [path for part in ("tiles", "features") for path in (folder / part).rglob("*")]
    return {path.relative_to(folder) for path in made if path.is_file()}


def slides_on_disk(folder: Path) -> set[str]:
    """Slides in the folder, whole or in part."""
    files = folder / "slides" / "files"
    return {path.name.removesuffix(".partial") for path in files.glob("*")}


@pytest.mark.parametrize("downloads", [1, DOWNLOADS])
def test_few_slides_on_disk_and_the_same_results(
    downloads: int, server: FaultServer, tmp_path: Path
) -> None:
    own = write_slide(tmp_path / "own.svs", picture(512, 512, seed=99))
    kept, thrown = (cohort(server, tmp_path / name, own) for name in ("kept", "thrown"))
    keep(kept)
    seen: list[int] = []
    # A slide appears on disk right before its request, so these are all the moments that count.
    server.on_request = lambda: seen.append(len(slides_on_disk(thrown)))
    throw_away(thrown, replace(FAST, parallel=downloads))
    assert 1 <= max(seen) <= downloads
    assert slides_on_disk(thrown) == set()
    assert own.exists()
    assert_same(kept, thrown)
    failed = pl.read_parquet(manifests(thrown).features).filter(pl.col("status") != "ok")
    assert failed["slide_id"].to_list() == ["S4", "gone"]
    assert "HTTP status 404" in failed["reason"][1]


def test_it_goes_on_with_the_next_slide(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, thrown = (cohort(server, tmp_path / name) for name in ("kept", "thrown"))
    keep(kept)
    server.requests.clear()
    real, calls = extract.extract_shard, []

    def dies(*args: object, **kwargs: object) -> pl.DataFrame:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(extract, "extract_shard", dies)
    server.add("/5", "drip")
    with pytest.raises(KeyboardInterrupt):
        throw_away(thrown)
    assert not (thrown / "slides" / "files" / "S5.svs").exists()  # Nobody waited for it.
    assert not manifests(thrown).slides.exists()
    left = len(slides_on_disk(thrown))
    assert 0 < left <= DOWNLOADS
    server.requests.clear()
    throw_away(thrown)
    asked = {path for path, _, _ in server.requests}
    assert not asked & {"/0", "/1", "/2"}
    assert slides_on_disk(thrown) == set()
    assert_same(kept, thrown)
    server.requests.clear()
    throw_away(thrown)  # Only what failed is tried again.
    assert {path for path, _, _ in server.requests} == {"/4", "/gone"}


@pytest.mark.parametrize("change", [{"tile_px": 32}, {"max_tiles": 3}])
def test_other_settings_fetch_again(
    change: dict[str, int], server: FaultServer, tmp_path: Path
) -> None:
    folder = cohort(server, tmp_path / "thrown")
    throw_away(folder)
    server.requests.clear()
    consumer = streaming.SlideStreamer(manifests(folder), TILES | change, ENCODER, 1, 1, FAST)
    streaming.stream_shard(folder / "slides.parquet", 0, 1, consumer)
    assert {path for path, _, _ in server.requests} >= {f"/{n}" for n in range(COUNT)}
    made = pl.read_parquet(manifests(folder).features)
    assert made.filter(pl.col("status") == "ok").height == COUNT - 1


@pytest.mark.parametrize("suffix", [".json", ".parquet", ".mask.png", ".jpg"])
def test_a_slide_of_which_a_file_is_gone_is_fetched_again(
    suffix: str, server: FaultServer, tmp_path: Path
) -> None:
    folder = cohort(server, tmp_path / "thrown")
    throw_away(folder)
    lost = folder / "tiles" / f"S2{suffix}"
    before = lost.read_bytes()
    lost.unlink()
    server.requests.clear()
    throw_away(folder)
    assert {path for path, _, _ in server.requests} == {"/2", "/4", "/gone"}
    assert lost.read_bytes() == before
    made = pl.read_parquet(manifests(folder).tiles)
    assert made.filter(pl.col("status") == "ok").height == COUNT - 1


def test_command_line(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    folder, token = cohort(server, tmp_path / "thrown"), tmp_path / "token"
    token.write_text("a-token\n")
    to, main = manifests(folder), importlib.import_module("consume").main
    arguments = ["--slides", folder / "slides.parquet", "--shard", 0, "--shards", 1]
    arguments += ["--slides-manifest", to.slides, "--tiles-manifest", to.tiles]
    arguments += ["--features-manifest", to.features, "--tile-settings", json.dumps(TILES)]
    arguments += ["--downloads", 2, "--api", server.url(""), "--token-file", token]
    color = ["--settings", '{"encoder": "color"}']
    main([str(argument) for argument in [*arguments, *color]])
    assert pl.read_parquet(to.features).filter(pl.col("status") == "ok").height == COUNT - 1
    assert {headers["X-Auth-Token"] for _, headers, _ in server.requests} == {"a-token"}
    with pytest.raises(ConfigError, match="slide"):
        main([str(argument) for argument in [*arguments, "--settings", '{"encoder": "files"}']])
