"""Features: tiles at the exact scale, rejects, resuming, corrupt slides, own h5 files."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from PIL import Image
from slide2rna.core import config
from slide2rna.core.errors import SlideError, StageError
from slide2rna.features import encode, feature_file, provided, registry
from slide2rna.features import extract as features_extract
from slide2rna.slides import tiles
from slide2rna.slides.reader import open_slide
from slide_factory import corrupt_tile, picture, shard, write_slide

TILES = config.defaults("tiles")
COLOR = registry.ColorEncoder(batch=4)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("f") / "good.svs", picture())


def test_tile_is_the_pixels_and_their_colour(tmp_path: Path) -> None:
    pixels = picture(600, 600)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    with open_slide(tmp_path / "p.png", 0.5) as slide:
        tile = encode.read_tile(slide, 200, 300, 0, 256, 256, 0.05)
    want = pixels[300:556, 200:456]
    np.testing.assert_array_equal(tile.pixels, want)
    scaled = want.reshape(-1, 3) / 255
    np.testing.assert_allclose(
        tile.color, np.concatenate([scaled.mean(0), scaled.std(0)]), atol=1e-6
    )
    assert tile.good


@pytest.mark.parametrize("size", [186, 256, 257, 400, 512])
def test_resampling_is_exact_in_scale(tmp_path: Path, size: int) -> None:
    """A linear ramp stays one: at every output pixel, the value of its place in the slide."""
    ramp = np.linspace(0, 255, 600)[None, :, None].repeat(600, 0).repeat(3, 2)
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "ramp.png")
    with open_slide(tmp_path / "ramp.png", 0.5) as slide:
        tile = encode.read_tile(slide, 50, 0, 0, size, 256, 0.0)
    assert tile.pixels.shape == (256, 256, 3)
    place = 50 + (np.arange(256) + 0.5) * size / 256 - 0.5
    found = tile.pixels[128, :, 0].astype(float)
    np.testing.assert_allclose(found[3:-3], (place * 255 / 599)[3:-3], atol=1.3)


def test_lower_level_equals_level_0(good: Path) -> None:
    """A 40x tile from the 4x-smaller level and from level 0 show the same field."""
    with open_slide(good, 0.125) as slide:
        level = slide.level_for(4)
        small = encode.read_tile(slide, 512, 768, level, 1024, 256, 0.0)
        large = encode.read_tile(slide, 512, 768, 0, 1024, 256, 0.0)
    assert level == 1
    inner, full = small.pixels[8:-8, 8:-8].astype(int), large.pixels.astype(int)
    off = {
        (y, x): np.abs(inner - full[8 + y : 248 + y, 8 + x : 248 + x]).mean()
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    }
    assert off[0, 0] < 0.6 * min(value for shift, value in off.items() if shift != (0, 0))
    assert off[0, 0] < 7  # JPEG, twice


@pytest.mark.parametrize(
    ("value", "good"), [((243, 242, 244), False), ((228, 160, 195), False), (None, True)]
)
def test_decoded_tiles_are_checked_again(tmp_path: Path, value: tuple | None, good: bool) -> None:
    pixels = picture(256, 256)[100:160, 100:160]
    pixels = np.tile(pixels, (5, 5, 1)) if value is None else np.full((300, 300, 3), value)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "t.png")
    with open_slide(tmp_path / "t.png", 0.5) as slide:
        assert encode.read_tile(slide, 0, 0, 0, 256, 256, 0.05).good is good


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("parallel", [True, False])
def test_extract_keeps_order_and_drops_rejects(good: Path, threads: int, parallel: bool) -> None:
    with open_slide(good) as slide:
        table = tiles.tile_slide(slide, TILES, 1, "s").table
        glass = table.head(1).with_columns(x=0, y=0)
        both = pl.concat([table.head(3), glass.cast(table.schema), table.tail(-3)])
        encoder = registry.ColorEncoder(batch=4, parallel=parallel)
        meter = encode.Meter()
        found = encode.extract(slide, both, encoder, TILES, threads, meter)
        plain = [
            encode.read_tile(slide, x, y, 0, 256, 256, 0.05).color
            for x, y in table.select("x", "y").rows()
        ]
    np.testing.assert_array_equal(found.coords, table.select("x", "y").to_numpy())
    np.testing.assert_array_equal(found.features, plain)
    np.testing.assert_array_equal(found.color, plain)
    assert meter.tiles == table.height + 1
    assert "tiles/s" in meter.text(threads)


def prepared(folder: Path, slides: dict[str, Path], **columns: list[object]) -> tuple[Path, Path]:
    table = shard(folder / "shard-0.parquet", slides, **columns)
    tiles.tile_shard(table, folder / "tiles", folder / "tiles/shard-0.parquet", TILES, 1)
    return table, folder / "tiles"


def run(
    table: Path, folder: Path, encoder: registry.Encoder = COLOR, threads: int = 2
) -> pl.DataFrame:
    out = folder.parent / "features" / encoder.name
    manifest = out / "shard-0.parquet"
    return features_extract.extract_shard(
        table, folder, folder / "shard-0.parquet", out, manifest, encoder, TILES, threads
    )


def test_a_slide_that_goes_away_stops_the_shard_and_nothing_else(
    tmp_path: Path, good: Path
) -> None:
    lost = Path(shutil.copy(good, tmp_path / "lost.svs"))
    inputs = prepared(tmp_path, {"a": good, "lost": lost, "z": good})
    lost.unlink()
    with pytest.raises(StageError, match="lost;"):
        run(*inputs)
    out = tmp_path / "features/color"
    assert {path.name for path in out.iterdir()} == {"a.h5", "z.h5"}
    # What is done needs no slide any more.
    good_again = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    shutil.copy(good, lost)
    assert run(*inputs)["status"].to_list() == ["ok"] * 3
    for name, when in good_again.items():
        assert (out / name).stat().st_mtime_ns == when


def test_shard(tmp_path: Path, good: Path) -> None:
    """A slide broken in the middle passes tiling and fails here; its neighbours go on."""
    middle = corrupt_tile(write_slide(tmp_path / "middle.svs", picture()), 8 * 4 + 3)
    empty = write_slide(tmp_path / "empty.svs", picture(512, 512, tissue=False))
    found = run(*prepared(tmp_path, {"a": good, "empty": empty, "middle": middle, "z": good}))
    assert found["status"].to_list() == ["ok", "failed", "failed", "ok"]
    assert "too little tissue" in found["reason"][1]
    assert "can't be decoded" in found["reason"][2]
    out = tmp_path / "features/color"
    names = {"a.h5", "z.h5", "shard-0.parquet"}
    assert {path.name for path in out.iterdir()} == names
    with h5py.File(out / "a.h5") as file:
        assert set(file) == {"features", "coords", "color"}
        assert (file["features"].dtype, file["coords"].dtype) == (np.float32, np.int64)
        assert file.attrs["encoder"] == "color"
        assert (file.attrs["mpp"], file.attrs["tile_px"]) == (0.5, 256)
        assert file.attrs["version"] >= 1
        assert len(file["features"]) == len(file["coords"]) == found["n_tiles"][0]
    assert (out / "a.h5").read_bytes()[:4] == b"\x89HDF"


def test_same_bytes_for_any_threads(tmp_path: Path, good: Path) -> None:
    """lite0 with one thread and with three: not only close, but the same file."""
    table, folder = prepared(tmp_path, {"a": good})
    encoder = registry.load(config.defaults("features"))
    run(table, folder, encoder, threads=1)
    path = tmp_path / "features/lite0/a.h5"
    first = path.read_bytes()
    path.unlink()
    run(table, folder, encoder, threads=3)
    assert path.read_bytes() == first


def test_rerun_keeps_what_is_there(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, folder = prepared(tmp_path, {"a": good, "b": good})
    first = run(table, folder)
    out = tmp_path / "features/color"
    (out / "shard-0.parquet").unlink()
    (out / "b.h5").write_bytes(b"half a file")
    opened = []
    monkeypatch.setattr(
        features_extract,
        "open_slide",
        lambda path, mpp: opened.append(path) or open_slide(path, mpp),
    )
    assert run(table, folder).equals(first)
    assert len(opened) == 1
    flipped = bytearray((out / "a.h5").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (out / "a.h5").write_bytes(flipped)
    assert run(table, folder).equals(first)
    assert len(opened) == 2
    other = registry.ColorEncoder(batch=4, identity="other weights")
    run(table, folder, other)
    assert len(opened) == 4


def test_manifest_of_another_shard_is_refused(tmp_path: Path, good: Path) -> None:
    _, folder = prepared(tmp_path, {"a": good})
    other = shard(tmp_path / "other.parquet", {"b": good})
    with pytest.raises(StageError, match="tiles"):
        run(other, folder)


def test_command_lines(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three stages as they are typed; a wrong setting is one line and status 2."""
    import bag
    import extract
    import tile
    from slide2rna.core import cli
    from slide2rna.features import bag_file

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    table = str(shard(tmp_path / "s.parquet", {"a": good, "b": good}))
    folder, out = tmp_path / "tiles", tmp_path / "features/color"
    manifests = [str(folder / "shard-0.parquet"), str(out / "shard-0.parquet")]
    tile.main(["--shard", table, "--out", str(folder), "--manifest", manifests[0]])
    encoding = ["--shard", table, "--out", str(out), "--manifest", manifests[1]]
    encoding += ["--settings", '{"encoder": "color"}', "--device", "cpu"]
    extract.main([*encoding, "--tiles", str(folder), "--tiles-manifest", manifests[0]])
    bagged = ["--features", str(out), "--manifests", manifests[1], "--settings", '{"k": 4}']
    bag.main([*bagged, "--out", str(tmp_path / "bags.safetensors")])
    found = bag_file.load(tmp_path / "bags.safetensors")
    assert (found.slide_ids, found.encoder, found.means.shape) == (["a", "b"], "color", (2, 4, 6))
    with pytest.raises(SystemExit) as caught:
        cli.run(extract.main, encoding)
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: --tiles: missing")


def own(path: Path, name: str = "features", n: int = 5, m: int = 5, **changes: np.ndarray) -> Path:
    arrays = {name: np.ones((n, 3)), "coords": np.arange(2 * m).reshape(m, 2)} | changes
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return path


def test_own_features_in_all_layouts(tmp_path: Path) -> None:
    """STAMP and TRIDENT keys, a leading 1, half precision, three coordinates."""
    arrays = {"features": np.ones((1, 5, 3), np.float16), "coords": np.ones((1, 5, 3))}
    source = tmp_path / "own"
    own(source / "a.h5", "feats")
    own(source / "b.h5", **arrays)
    table = shard(tmp_path / "s.parquet", {"a": None, "b": None})
    out = tmp_path / "out"
    found = provided.check_provided_features(table, source, out, out / "shard-0.parquet")
    assert found.select("status", "n_tiles", "dim").rows() == [("ok", 5, 3)] * 2
    for name in "ab":
        read = feature_file.read(out / f"{name}.h5")
        assert (read.features.shape, read.coords.shape, read.color) == ((5, 3), (5, 2), None)
        assert (read.features.dtype, read.coords.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"m": 4}, "counts"),
        ({"n": 0, "m": 0}, "zero"),
        ({"features": np.full((5, 3), np.nan)}, "finite"),
        ({"features": np.full((5, 3), np.inf)}, "finite"),
        ({"features": np.ones(5)}, "shape"),
        ({"features": np.full((5, 3), b"x")}, "finite"),
        ({"color": np.ones((4, 6))}, "color"),
        ({"name": "embeddings"}, r"\['coords', 'embeddings'\]"),
    ],
)
def test_bad_own_features(tmp_path: Path, changes: dict, message: str) -> None:
    path = own(tmp_path / "x.h5", **changes)
    with pytest.raises(SlideError, match=rf"x\.h5: .*{message}"):
        feature_file.read(path)


def test_bad_own_files_fail_alone(tmp_path: Path) -> None:
    source = tmp_path / "own"
    own(source / "a.h5")
    (source / "text.h5").write_text("no h5")
    slides = {"a": None, "gone": None, "late": None, "text": None}
    reasons = {"status": ["ok", "ok", "failed", "ok"], "reason": [None, None, "md5 differs", None]}
    table = shard(tmp_path / "s.parquet", slides, **reasons)
    out = tmp_path / "out"
    found = provided.check_provided_features(table, source, out, out / "shard-0.parquet")
    assert found["status"].to_list() == ["ok", "failed", "failed", "failed"]
    assert "no such file" in found["reason"][1]
    assert found["reason"][2] == "md5 differs"
    assert "not a readable h5" in found["reason"][3]
    own(source / "text.h5", features=np.ones((5, 4)))
    with pytest.raises(StageError, match="a has 3, text has 4"):
        provided.check_provided_features(table, source, out, out / "shard-0.parquet")
