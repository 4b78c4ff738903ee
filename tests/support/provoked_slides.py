"""More troubles, with slides, features, weights, models and downloads; `TROUBLES` has all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import flow_cohort
import h5py
import numpy as np
import polars as pl
import torch
from fault_server import FaultServer
from fetching import get
from provoked import TROUBLES, trouble
from slide2rna.commands import convert, predict
from slide2rna.core import config, devices
from slide2rna.features import clusters, extract, lite0, lite0_weights, provided, registry
from slide2rna.maps import map_slide, targets, windows
from slide2rna.models import checkpoint
from slide2rna.package import predictor
from slide2rna.pathways import build
from slide2rna.predict import encode_slide, predict_slides
from slide2rna.sampling import fold_draws
from slide2rna.slides import download, tiles
from slide2rna.training import fit
from slide2rna.transfer import batch, resumable
from slide_factory import break_header, corrupt_tile, picture, shard, write_slide

__all__ = ["TROUBLES"]
REPO = Path(__file__).resolve().parents[2]


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


@trouble
def unknown_encoder() -> None:
    registry.load(config.defaults("features", encoder="unni"))


@trouble
def gated_weights() -> None:
    import huggingface_hub.constants

    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        registry.load(config.defaults("features", encoder="uni"))
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


@trouble
def weights_that_pip_cannot_fetch() -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    with (
        mock.patch.object(lite0, "find_spec", return_value=None),
        mock.patch.dict(os.environ, offline),
    ):
        lite0_weights.write(Path("lite0.pth"))


@trouble
def weights_of_another_network() -> None:
    torch.save({"conv.weight": torch.ones(3)}, "uni.bin")
    registry.load(config.defaults("features", encoder="resnet18", weights="uni.bin"))


@trouble
def no_gpu() -> None:
    devices.choose_device("cuda")


@trouble
def no_gene_set_is_left() -> None:
    genes = [f"ENSG{i:011d}" for i in range(50)]
    build.build_pathways(config.defaults("pathways"), genes, REPO / "resources" / "go")


@trouble
def a_gmt_with_spaces() -> None:
    Path("sets.gmt").write_text("MY_SET my own set TP53 EGFR\n")
    build.build_pathways(config.defaults("pathways", source="sets.gmt"), ["TP53", "EGFR"], REPO)


@trouble
def the_loss_is_not_finite() -> None:
    made = flow_cohort.make(Path("c"), {"train": 14, "val": 4, "cal": 2, "test": 4})
    settings = flow_cohort.settings(learning_rate=1e30)
    fit.fit_fold(made.inputs, Path("out"), settings, 1, torch.device("cpu"))


@trouble
def another_encoder() -> None:
    bagged = (np.zeros((1, 6, 64)), np.ones((1, 6)))
    settings, device = config.defaults("sample"), torch.device("cpu")
    meta = {"features": 230, "clusters": 100}
    fold_draws.sample_fold(None, meta, bagged, None, settings, 1, 0, "run", "o", "s", device)  # type: ignore


@trouble
def no_model() -> None:
    Path("fold-0").mkdir()
    checkpoint.load_model("fold-0")


@trouble
def a_slide_has_changed() -> None:
    Path("A.svs").write_bytes(b"new scan")
    download.check_file("A.svs", md5="0" * 32)


@trouble
def the_disk_is_too_small() -> None:
    batch.check_room([resumable.Download("http://x", Path("A.svs"), size=10**17)])


@trouble
def a_controlled_file() -> None:
    with FaultServer({"/A.svs": b"x"}) as server:
        server.add("/A.svs", "status 403")
        get(server.url("/A.svs"), Path("A.svs"))


@trouble
def a_withdrawn_file() -> None:
    with FaultServer({}) as server:
        get(server.url("/A.svs"), Path("A.svs"))


@trouble
def genes_of_a_checkpoint() -> None:
    torch.save({"model": {}}, "val_best.pt")
    convert.main(["val_best.pt", "luad/fold-0"])


@trouble
def no_model_to_predict_with() -> None:
    predictor.find("results/LUAD")


@trouble
def several_models_to_predict_with() -> None:
    for run in ("lite0-flow-go-bp", "uni-flow-go-bp"):
        folder = Path("results/LUAD/models", run)
        folder.mkdir(parents=True)
        (folder / "predictor.json").write_text("{}")
    predictor.find("results/LUAD")


def predicted_from_file(model: dict[str, object]) -> None:
    """Ask a model about a features file of encoder uni with eight numbers per tile."""
    with h5py.File("A.h5", "w") as file:
        file["features"], file["coords"] = np.ones((5, 8)), np.ones((5, 2), int)
        file.attrs["encoder"] = "uni"
    tiled = SimpleNamespace(level="tile", **model)
    encode_slide.encode_slide(Path("A.h5"), tiled, None, 1)  # type: ignore[arg-type]


@trouble
def features_of_another_encoder() -> None:
    predicted_from_file({"about": {"encoder": "lite0"}, "feature_dim": 230, "made_by": "lite0"})


@trouble
def features_of_another_length() -> None:
    predicted_from_file({"about": {"encoder": "uni"}, "feature_dim": 1024, "made_by": "uni"})


def asked_for_slides(**about: object) -> None:
    model = SimpleNamespace(folder=Path("luad"), about={"features": None, "tiles": None} | about)
    predictor.Predictor.check_slides(model)  # type: ignore[arg-type]


@trouble
def slides_for_a_converted_checkpoint() -> None:
    asked_for_slides()


@trouble
def slides_for_a_model_of_own_features() -> None:
    asked_for_slides(features={"encoder": "files"})


@trouble
def half_a_model() -> None:
    Path("luad").mkdir()
    Path("luad/predictor.json").write_text("{}")
    predictor.load("luad", "cpu")


@trouble
def one_draw() -> None:
    predict.main(["a.svs", "--model", "m", "--out", "o", "--draws", "1"])


@trouble
def two_slides_of_one_name() -> None:
    options = predict_slides.PredictOptions()
    predict_slides.predict_slides(None, [Path("a/A.svs"), Path("b/A.svs")], Path("o"), options)  # type: ignore


@trouble
def a_gene_that_the_model_lacks() -> None:
    targets.resolve_names(["ERBB2", "ERBB3", "CD3D"], ["HER2", "CD3D"], "--genes", "gene")


@trouble
def nothing_to_map() -> None:
    targets.choose_targets(pl.DataFrame(), pl.DataFrame(), [], [], "zscore")


@trouble
def a_stride_beyond_the_window() -> None:
    windows.WindowShape.of(8, 9)


@trouble
def a_map_of_features() -> None:
    with h5py.File("A.h5", "w") as file:
        file["features"], file["coords"] = np.ones((5, 8)), np.ones((5, 2), int)
    map_slide.map_slide(Path("A.h5"), None, None, None, Path("out"))  # type: ignore[arg-type]
