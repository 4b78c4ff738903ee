"""More troubles, with slides and their features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import polars as pl
from provoked import TROUBLES, trouble
from slide2rna.core import config
from slide2rna.features import clusters, extract, provided, registry
from slide2rna.slides import reader, tiles
from slide_factory import break_header, corrupt_tile, picture, shard, write_slide

__all__ = ["TROUBLES", "trouble"]


def tiled(name: str, path: Path | None, **settings: object) -> None:
    own = config.defaults("tiles", **settings)
    tiles.tile_shard(
        shard(Path("s.parquet"), {name: path}), Path("tiles"), Path("m.parquet"), own, 1
    )


@trouble
def slide_goes_away() -> None:
    Path("slides").mkdir()
    own = config.defaults("tiles")
    slides = shard(Path("slides/shard-0.parquet"), {"A": Path("scans/A.svs")})
    tiles.tile_shard(slides, Path("tiles"), Path("m.parquet"), own, 1)


@trouble
def disk_is_full() -> None:
    Path("/dev/full").write_text("x")


@trouble
def no_resolution() -> None:
    tiled("A", write_slide(Path("A.svs"), picture(512, 512), mpp=None, power=None))


@trouble
def absurd_resolution() -> None:
    tiled("A", write_slide(Path("A.svs"), picture(512, 512), mpp=25))


@trouble
def not_a_slide() -> None:
    tiled("A", break_header(write_slide(Path("A.svs"), picture(512, 512))))


@trouble
def too_little_tissue() -> None:
    tiled("A", write_slide(Path("A.svs"), picture(1024, 1024, tissue=False)))


@trouble
def corrupt_region() -> None:
    path = write_slide(Path("A.svs"), picture(1024, 1024))
    slides = shard(Path("s.parquet"), {"A": path})
    own = config.defaults("tiles")
    tiles.tile_shard(slides, Path("tiles"), Path("m.parquet"), own, 1)
    for index in range(16):
        corrupt_tile(path, index)
    encoder = registry.ColorEncoder()
    extract.extract_shard(
        *(slides, Path("tiles"), Path("m.parquet"), Path("features"), Path("f.parquet")),
        *(encoder, own, 1),
    )


@trouble
def too_many_failed_slides() -> None:
    rows = [("A", "ok", None, 9, 0, 6), ("B", "failed", "no such file", None, None, None)]
    table = pl.DataFrame(rows, schema=extract.MANIFEST_SCHEMA, orient="row")
    table.write_parquet("shard-0.parquet")
    settings = config.defaults("bags")
    clusters.cluster_slides(
        Path("features"),
        [Path("shard-0.parquet")],
        Path("b"),
        settings,
        config.defaults("features"),
        0,
        1,
        1,
    )


@trouble
def too_little_memory_for_a_slide() -> None:
    path = write_slide(Path("A.svs"), picture(512, 512))
    with mock.patch.object(reader.Slide, "overview", side_effect=MemoryError):
        tiled("A", path)


@trouble
def no_coarse_level() -> None:
    path = write_slide(Path("A.svs"), picture(512, 512))
    with mock.patch.object(reader, "MAX_OVERVIEW_PX", 100):
        tiled("A", path)


def own_features(write: Callable[[h5py.File], None]) -> None:
    Path("mine").mkdir(exist_ok=True)
    with h5py.File("mine/A.h5", "w") as file:
        write(file)
    slides = shard(Path("s.parquet"), {"A": None})
    provided.check_provided_features(slides, Path("mine"), Path("out"), Path("m.parquet"))


@trouble
def features_without_coordinates() -> None:
    own_features(lambda file: file.create_dataset("features", data=np.ones((5, 8))))


@trouble
def features_are_not_there() -> None:
    slides = shard(Path("s.parquet"), {"A": None})
    provided.check_provided_features(slides, Path("mine"), Path("out"), Path("m.parquet"))


@trouble
def features_of_a_whole_slide() -> None:
    def write(file: h5py.File) -> None:
        file["feats"], file["coords"] = np.ones((5, 8)), np.ones((5, 2))
        file.attrs["feat_type"] = "patient"

    own_features(write)


@trouble
def features_without_tiles() -> None:
    def write(file: h5py.File) -> None:
        file["features"], file["coords"] = np.ones((0, 8)), np.ones((0, 2), int)

    own_features(write)


@trouble
def coordinates_in_millimetres() -> None:
    def write(file: h5py.File) -> None:
        file["feats"], file["coords"] = np.ones((5, 8)), np.ones((5, 2))
        file.attrs["unit"] = "mm"

    own_features(write)


@trouble
def features_of_two_kinds() -> None:
    Path("mine").mkdir()
    for name, encoder in (("A", "uni"), ("B", "uni2")):
        with h5py.File(f"mine/{name}.h5", "w") as file:
            file["features"], file["coords"] = np.ones((5, 8)), np.ones((5, 2), int)
            file.attrs["encoder"] = encoder
    slides = shard(Path("s.parquet"), {"A": None, "B": None})
    provided.check_provided_features(slides, Path("mine"), Path("out"), Path("m.parquet"))


@trouble
def features_of_two_encoders() -> None:
    Path("mine").mkdir()
    for name, length in (("A", 8), ("B", 9)):
        with h5py.File(f"mine/{name}.h5", "w") as file:
            file["features"], file["coords"] = np.ones((5, length)), np.ones((5, 2), int)
    slides = shard(Path("s.parquet"), {"A": None, "B": None})
    provided.check_provided_features(slides, Path("mine"), Path("out"), Path("m.parquet"))
