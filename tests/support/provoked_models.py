"""More troubles, with weights, models, downloads and predictions; `TROUBLES` has all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import flow_cohort
import h5py
import numpy as np
import polars as pl
import provoked_encoders
import torch
from fault_server import FaultServer
from fetching import get
from provoked_slides import TROUBLES, trouble
from slide2rna.commands import convert, predict
from slide2rna.core import cli, config, devices
from slide2rna.maps import map_slide, targets, windows
from slide2rna.models import checkpoint
from slide2rna.package import about_check, predictor
from slide2rna.pathways import build
from slide2rna.predict import encode_slide, predict_slides
from slide2rna.sampling import fold_draws
from slide2rna.slides import download
from slide2rna.storage import parquet, split_file
from slide2rna.training import fit
from slide2rna.transfer import batch, resumable

__all__ = ["TROUBLES", "provoked_encoders"]
REPO = Path(__file__).resolve().parents[2]


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
def no_network() -> None:
    Path("fold-0").mkdir()
    Path("fold-0/model.json").write_text('{"format": 4, "model": "flow", "genes": ["A"]}')
    checkpoint.load_model("fold-0")


@trouble
def a_strangers_record() -> None:
    about_check.check_about(Path("luad/predictor.json"), [])


@trouble
def too_little_memory() -> None:
    raise ImportError("libtorch_cpu.so: failed to map segment from shared object")


@trouble
def too_little_address_space() -> None:
    with mock.patch.object(cli.resource, "getrlimit", return_value=(1_500_000 << 10, -1)):
        cli.set_threads(1)


@trouble
def pickled_features() -> None:
    Path("A.pt").write_bytes(b"PK")
    encode_slide.check_file(Path("A.pt"))


@trouble
def names_in_two_cases() -> None:
    predict_slides.predict_slides(None, [Path("a.h5"), Path("A.h5")], Path("out"), None)  # type: ignore[arg-type]


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
def a_damaged_table() -> None:
    parquet.write(pl.DataFrame({"slide_id": ["A", "B"]}), "mine/slides.parquet")
    content = bytearray(Path("mine/slides.parquet").read_bytes())
    content[30] ^= 1
    Path("mine/slides.parquet").write_bytes(content)
    parquet.read("mine/slides.parquet")


@trouble
def edited_folds() -> None:
    folds = pl.DataFrame({"unit": ["A", "B"], "fold": [0, 0], "part": ["train", "test"]})
    split_file.write(folds, "mine/splits.tsv")
    path = Path("mine/splits.tsv")
    path.write_text(path.read_text().replace("test", "val"))
    split_file.read(path)


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
