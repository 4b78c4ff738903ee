"""Features files as TRIDENT, CLAM and STAMP write them, and back in this program's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
from slide2rna.core.errors import SlideError, StageError
from slide2rna.features import feature_file, provided, stated_facts
from slide2rna.storage import parquet

N, DIM = 6, 4
GRID = np.array([[0, 0], [512, 0], [1024, 0], [0, 512], [512, 512], [1536, 1024]])
VALUES = np.arange(N * DIM, dtype=np.float32).reshape(N, DIM) / 8


def trident(path: Path, encoder: str = "uni_v1", **changes: Any) -> Path:
    """Resizable datasets in chunks of a row, attributes on each; as its save_h5 leaves them."""
    of_features = {"name": path.stem, "savetodir": "/somewhere", "encoder": encoder}
    of_coords = {
        "patch_size": 256,
        "patch_size_level0": 512,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": path.stem,
        "savetodir": "/somewhere",
        "level0_width": 4000,
        "level0_height": 3000,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value, attributes in (
            ("features", changes.get("features", VALUES), of_features),
            ("coords", changes.get("coords", GRID), of_coords),
        ):
            shape = value.shape
            chunks = (1, *shape[1:])
            made = file.create_dataset(
                key, shape, value.dtype, maxshape=(None, *shape[1:]), chunks=chunks
            )
            made[:] = value
            made.attrs.update(attributes)
    return path


def clam(path: Path) -> Path:
    """Batches appended to both datasets, int32 corners, no attribute at all."""
    with h5py.File(path, "w") as file:
        for start in (0, 4):
            for key, value in (("features", VALUES), ("coords", GRID.astype(np.int32))):
                part = value[start : start + 4]
                if key not in file:
                    rest = part.shape[1:]
                    file.create_dataset(key, data=part, maxshape=(None, *rest), chunks=(32, *rest))
                    continue
                file[key].resize(len(file[key]) + len(part), axis=0)
                file[key][-len(part) :] = part
    return path


def stamp(path: Path, extractor: str = "mahmood-uni-77ffbca1", **attributes: Any) -> Path:
    """Half precision, corners in µm as float32, attributes of the file."""
    about = {
        "stamp_version": "2.4.0",
        "extractor": extractor,
        "unit": "um",
        "tile_size_um": 256.0,
        "tile_size_px": 224,
        "code_hash": "0123abcd",
        "feat_type": "tile",
    } | attributes
    with h5py.File(path, "w") as file:
        file["coords"] = (GRID * 0.5).astype(np.float32)
        file["feats"] = VALUES.astype(np.float16)
        file.attrs.update({key: value for key, value in about.items() if value is not None})
    return path


def test_trident(tmp_path: Path) -> None:
    found = feature_file.read(trident(tmp_path / "a.h5"))
    np.testing.assert_array_equal(found.features, VALUES)
    np.testing.assert_array_equal(found.coords, GRID)
    assert (found.unit, found.encoder, found.mpp) == ("px", "uni", 0.5)
    assert (found.features.dtype, found.coords.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(found.level0(0.25), GRID)  # px are px, whatever the mpp
    # Its save_h5 writes 'None' where an encoder has no name, and older versions a leading 1.
    older = trident(tmp_path / "b.h5", "None", features=VALUES[None], coords=GRID[None])
    found = feature_file.read(older)
    assert (found.features.shape, found.coords.shape, found.encoder) == ((N, DIM), (N, 2), None)


def test_clam(tmp_path: Path) -> None:
    found = feature_file.read(clam(tmp_path / "a.h5"))
    np.testing.assert_array_equal(found.features, VALUES)
    np.testing.assert_array_equal(found.coords, GRID)
    assert (found.unit, found.encoder, found.mpp) == ("px", None, None)


def test_stamp(tmp_path: Path) -> None:
    found = feature_file.read(stamp(tmp_path / "a.h5"))
    np.testing.assert_array_equal(found.features, VALUES)
    assert (found.unit, found.encoder, found.coords.dtype) == ("um", "uni", np.float64)
    assert found.mpp == pytest.approx(256 / 224)
    np.testing.assert_array_equal(found.coords, GRID * 0.5)
    np.testing.assert_array_equal(found.level0(0.5), GRID)
    np.testing.assert_array_equal(found.level0(0.25), GRID * 2)


@pytest.mark.parametrize(
    ("attributes", "unit", "scale"),
    [
        # 2.0: the tile's edge is `tile_size`.
        ({"tile_size_um": None, "tile_size_px": None, "tile_size": 256.0}, "um", 0.5),
        ({"unit": None}, "um", 0.5),
        # Before 2.0: px of tiles that are 224 px and 256 µm wide.
        ({"unit": None, "tile_size_um": None, "tile_size_px": None}, "um", 0.5),
        ({"unit": "px"}, "px", 1),
    ],
)
def test_stamp_versions(tmp_path: Path, attributes: dict, unit: str, scale: float) -> None:
    path = stamp(tmp_path / "a.h5", **attributes)
    historic = attributes.get("unit", "") is None and "tile_size_um" in attributes
    with h5py.File(path, "a") as file:
        if historic:
            file["coords"][:] = GRID / 512 * 224
        elif unit == "px":
            file["coords"][:] = GRID
    found = feature_file.read(path)
    assert found.unit == unit
    wanted = GRID / 512 * 256 if historic else GRID * scale
    np.testing.assert_allclose(found.coords, wanted, rtol=1e-6)


def test_unknown_unit_is_not_guessed(tmp_path: Path) -> None:
    path = stamp(tmp_path / "a.h5", unit=None, tile_size_um=None, tile_size_px=None)
    found = feature_file.read(path)  # a stride of 256 could be anything
    assert found.unit is None
    with pytest.raises(SlideError, match="unit"):
        found.level0(0.5)
    # It stays unknown in this layout, and so do micrometres.
    for name, source in (("b", path), ("c", stamp(tmp_path / "s.h5"))):
        kept = feature_file.read(source)
        feature_file.write(tmp_path / f"{name}.h5", kept, {"encoder": "files"})
        again = feature_file.read(tmp_path / f"{name}.h5")
        assert again.unit == kept.unit
        np.testing.assert_array_equal(again.coords, kept.coords)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("uni_v1", "uni"),
        ("uni_v2", "uni2"),
        ("uni2", "uni2"),
        ("UNI", "uni"),
        ("mahmood-uni-77ffbca1", "uni"),
        ("resnet50", "resnet50"),
        ("virchow2", "virchow2"),
        ("None", None),
        ("files", None),
        (None, None),
    ],
)
def test_encoder_names(said: str | None, name: str | None) -> None:
    assert stated_facts.encoder_name(said) == name


def test_files_without_tile_features_are_refused(tmp_path: Path) -> None:
    patient = stamp(tmp_path / "p.h5", feat_type="patient")
    with h5py.File(patient, "a") as file:
        del file["coords"]
    with pytest.raises(SlideError, match=r"p\.h5: .*patient.*tile"):
        feature_file.read(patient)
    slide = trident(tmp_path / "s.h5", features=np.ones(768))
    with pytest.raises(SlideError, match="one vector"):
        feature_file.read(slide)
    empty = np.empty((0, 2), np.int64)
    nothing = trident(tmp_path / "e.h5", features=np.empty((0, DIM)), coords=empty)
    with pytest.raises(SlideError, match="zero tiles"):
        feature_file.read(nothing)
    with pytest.raises(SlideError, match="'mm'"):
        feature_file.read(stamp(tmp_path / "m.h5", unit="mm"))


def test_own_layout_is_unchanged(tmp_path: Path) -> None:
    """Files in px carry no new attribute, so that their bytes stay what they were."""
    found = feature_file.Features(VALUES, GRID, None)
    feature_file.write(tmp_path / "a.h5", found, {"encoder": "lite0", "mpp": 0.5})
    with h5py.File(tmp_path / "a.h5") as file:
        assert dict(file["coords"].attrs) == {}
    again = feature_file.read(tmp_path / "a.h5")
    assert (again.unit, again.encoder, again.mpp) == ("px", "lite0", 0.5)


def shard(path: Path, names: str) -> Path:
    parquet.write(
        pl.DataFrame(
            [{"slide_id": name, "status": "ok", "reason": None} for name in names],
            schema_overrides={"reason": pl.String},
        ),
        path,
    )
    return path


def test_a_cohort_knows_who_made_its_features(tmp_path: Path) -> None:
    source, out = tmp_path / "own", tmp_path / "out"
    trident(source / "a.h5")
    stamp(source / "b.h5")
    clam(source / "c.h5")  # says nothing, and is believed
    table = shard(tmp_path / "shard.parquet", "abc")
    found = provided.check_provided_features(table, source, out, out / "shard-0.parquet")
    assert found["status"].to_list() == ["ok"] * 3
    read = [feature_file.read(out / f"{name}.h5") for name in "abc"]
    assert [one.encoder for one in read] == ["uni", "uni", None]
    assert [one.unit for one in read] == ["px", "um", "px"]
    assert feature_file.read_attributes(out / "a.h5")["encoder"] == "files"
    assert read[1].mpp == pytest.approx(256 / 224)
    trident(source / "c.h5", "uni_v2")
    with pytest.raises(StageError, match=r"b .*uni, c .*uni2"):
        provided.check_provided_features(table, source, out, out / "shard-0.parquet")


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("mahmood-uni-77bdaedc-1c2d3e4f", "uni"),
        ("mahmood-uni", "uni"),
        ("uni2-4a5b6c7d", "uni2"),
        ("UNI_v1", "uni"),
        ("conch-0a1b2c3d", "conch"),
        ("vit_small_patch16_224", "vit_small_patch16_224"),
        (np.array([b"uni_v1"]), None),
        (3, None),
    ],
)
def test_spellings_of_an_encoder(stated: Any, name: str | None) -> None:
    assert stated_facts.encoder_name(stated) == name


def test_an_attribute_that_is_an_array_of_one(tmp_path: Path) -> None:
    path = trident(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["features"].attrs["encoder"] = np.array([b"uni_v1"])
    assert feature_file.read(path).encoder == "uni"


def stranger(path: Path, kind: str) -> Path:
    """A features file that leads elsewhere, or claims more than there is."""
    trident(path.with_name("other.h5"))
    with h5py.File(path, "w") as file:
        file["coords"] = GRID
        if kind == "external link":
            file["features"] = h5py.ExternalLink("other.h5", "/features")
        elif kind == "soft link":
            file["real"] = VALUES
            file["features"] = h5py.SoftLink("/real")
        elif kind == "external storage":
            path.with_name("raw").write_bytes(bytes(VALUES.nbytes))
            storage = [(str(path.with_name("raw")), 0, VALUES.nbytes)]
            file.create_dataset("features", VALUES.shape, np.float32, external=storage)
        elif kind == "virtual":
            layout = h5py.VirtualLayout(VALUES.shape, np.float32)
            layout[:] = h5py.VirtualSource("other.h5", "features", VALUES.shape)
            file.create_virtual_dataset("features", layout)
        elif kind == "huge":
            file.create_dataset("features", (10**8, 1536), np.float32, chunks=(1, 1536))
        elif kind == "complex":
            file["features"] = VALUES + 1j
        else:
            file["features"] = VALUES.astype(np.float64) * 1e39
    return path


@pytest.mark.parametrize(
    "kind",
    ["external link", "soft link", "external storage", "virtual", "huge", "complex", "overflow"],
)
def test_a_strangers_file_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SlideError, match="features"):
        feature_file.read(stranger(tmp_path / "a.h5", kind))
