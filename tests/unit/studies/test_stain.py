"""The stain report: unchanged tiles give the stored prediction, changed ones what a model sees."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import evaluated
import numpy as np
import polars as pl
import pytest
import torch
import zarr
from shift_tables import add_stain
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, StageError
from slide2rna.core.files import write_json
from slide2rna.data.fold_rows import FoldRows
from slide2rna.features import bag_file, clusters, extract, registry
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.models.regressor import Regressor
from slide2rna.pathways.membership import Pathways
from slide2rna.report.sections import shift as shift_section
from slide2rna.sampling import fold_draws
from slide2rna.slides import tiles
from slide2rna.storage import parquet
from slide2rna.studies.shift import reference
from slide2rna.studies.stain import stain
from slide2rna.studies.stain import tables as stain_tables
from slide2rna.studies.stain.stain import CHANGES, HALF_TILES, UNCHANGED
from slide_factory import picture, write_slide

TILES = config.defaults("tiles", tile_px=64, max_background=0.6)
K, GENES = 5, 30
BAGS = config.defaults("bags", k=K)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides through tiles, features and bags, and a network's stored points of them."""
    folder = tmp_path_factory.mktemp("stain")
    rows = []
    for number in range(2):
        path = write_slide(folder / f"S{number}.svs", picture(512, 384, seed=number))
        row = {"slide_id": f"S{number}", "path": str(path), "md5": None, "size": 1, "mpp": None}
        rows.append(row | {"area": None, "status": "ok", "reason": None})
    schema = {"md5": pl.String, "mpp": pl.Float64, "area": pl.String, "reason": pl.String}
    parquet.write(pl.DataFrame(rows, schema_overrides=schema), folder / "slides.parquet")
    to, made = folder / "tiles", folder / "features/color"
    tiles.tile_shard(folder / "slides.parquet", to, to / "shard-0.parquet", TILES, 1)
    extract.extract_shard(folder / "slides.parquet", to, to / "shard-0.parquet", made,
                 made / "shard-0.parquet", registry.ColorEncoder(), TILES, 1)  # fmt: skip
    bagged = clusters.cluster_slides(
        made,
        [made / "shard-0.parquet"],
        folder / "bags.safetensors",
        BAGS,
        config.defaults("features"),
        0,
        1,
        1,
    )
    torch.manual_seed(0)
    settings = config.defaults("baselines")["abmil"]
    model = Regressor("abmil", 6, K, GENES, settings).eval()
    model.gene_mean.fill_(4)
    model.gene_sd.copy_(torch.linspace(0, 1.5, GENES))
    genes = [f"G{i}" for i in range(GENES)]
    meta = {"model": "abmil", "genes": genes, "features": 6, "clusters": K}
    meta |= {"settings": {"model": settings}, "interpolant": "linear"}
    checkpoint.save_model(folder / "fold-0", model, meta)
    sampled = FoldRows(["S0", "S1"], ["A", "B"], ["test", "test"], ["A", "B"], np.arange(2))
    fold_draws.sample_fold(model, meta, (bagged.means, bagged.sizes), sampled,
                           config.defaults("sample"), 1, 0, "abmil", folder / "fold-0.zarr",
                           folder / "fold-0.parquet", torch.device("cpu"))  # fmt: skip
    law = reference.TrainingReference(
        np.zeros(6), np.ones(6), bagged.means.reshape(-1, 6).astype(np.float16),
        np.full(GENES, 4.0), np.linspace(0, 1.5, GENES), np.eye(2, GENES, dtype=np.float32),
        np.eye(2), np.array([0.01] * 30), np.array([0.5]), np.array([0.01] * 30), {"genes": genes},
    )  # fmt: skip
    reference.save(law, folder / "fold-0.safetensors")
    judged = pl.DataFrame({"slide_id": ["S0", "S1"], "unit": ["A", "B"], "part": "test"})
    parquet.write(judged, folder / "judged.parquet")
    write_json({"name": "small"}, folder / "cohort.json")
    return folder


def inputs(files: Path) -> stain.StainInputs:
    names = ("fold-0", "fold-0.zarr", "judged.parquet", "fold-0.safetensors", "slides.parquet")
    paths = ([files / name] for name in (*names, "tiles/shard-0.parquet"))
    return stain.StainInputs(*paths, files / "cohort.json")


def setup(threads: int = 1, **section: int) -> stain.EncodingSetup:
    of = config.defaults("stain", **section)
    encoder, sample = registry.ColorEncoder(batch=7), config.defaults("sample")
    return stain.EncodingSetup(encoder, TILES, BAGS, sample, of, 1, threads, torch.device("cpu"))


@pytest.fixture(scope="module")
def tables(files: Path) -> dict[str, pl.DataFrame]:
    stain_tables.write(inputs(files), setup(), "color-abmil", files / "stain", 0.05)
    return evaluated.tables(files / "stain")


def test_unchanged_tiles_give_the_stored_prediction(tables: dict[str, pl.DataFrame]) -> None:
    base = tables["slides"].filter(pl.col("kind") == UNCHANGED)
    assert base["n_tiles"].min() > 2 * K
    assert base["stored_off"].max() <= 1e-6
    assert base["moved"].to_list() == [0.0, 0.0]
    assert tables["stain"]["n_whole"].unique().to_list() == [2]


def test_a_flow_is_asked_with_the_noise_of_its_stored_point(files: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    small = {"hidden": 16, "blocks": 1, "heads": 2, "graph_heads": 2, "skip": "none"}
    sets = Pathways(["a", "b"], [np.arange(9), np.arange(7, 20)], GENES)
    model = RNAFM(sets, 6, K, config.defaults("model", cluster_layers=1, **small)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    bagged = bag_file.load(files / "bags.safetensors")
    own = config.defaults("sample", draws=2, steps=1)
    sampled = FoldRows(["S0", "S1"], ["A", "B"], ["test", "test"], ["A", "B"], np.arange(2))
    meta = {"genes": [f"G{i}" for i in range(GENES)], "features": 6, "clusters": K}
    fold_draws.sample_fold(model, meta, (bagged.means, bagged.sizes), sampled, own, 1, 0, "flow",
               tmp_path / "f.zarr", tmp_path / "f.parquet", torch.device("cpu"))  # fmt: skip
    stored = zarr.open_group(tmp_path / "f.zarr", mode="r")["point"][1]
    law = reference.load(files / "fold-0.safetensors")
    fold = stain.StainFold(0, model, law, {})
    found = stain.predict(fold, bagged.means[1], bagged.sizes[1], "S1", setup())
    np.testing.assert_allclose(found, stored, atol=1e-6)
    other = stain.predict(fold, bagged.means[1], bagged.sizes[1], "S0", setup())
    assert np.abs(other - stored).max() > 1e-4


def test_every_change_has_a_row_and_moves_what_depends_on_it(
    tables: dict[str, pl.DataFrame],
) -> None:
    table = tables["stain"]
    assert table.select("kind", "strength").rows() == [(UNCHANGED, None), *CHANGES]
    moved = {(k, s): v for k, s, v in table.select("kind", "strength", "moved").iter_rows()}
    assert all(moved[change] > 0 for change in CHANGES)
    # The encoder sees colour alone: brightness moves it, sharpness hardly.
    assert moved["brightness", 0.85] > 3 * moved["sharpness", -1.0]
    assert moved["hematoxylin", 0.7] > moved["hematoxylin", 0.85]
    # The cal patients lie very near, so a darker slide stands out.
    flagged = {(k, s): v for k, s, v in table.select("kind", "strength", "flagged").iter_rows()}
    assert (flagged["brightness", 0.85], flagged[UNCHANGED, None]) == (1, 0)
    ends = table.select("moved_low", "moved", "moved_high").to_numpy()
    assert (np.diff(ends, axis=1) >= 0).all()


def test_flagging_follows_what_the_cal_patients_can_reach(
    tables: dict[str, pl.DataFrame],
) -> None:
    slides = tables["slides"].drop("cohort", "run", strict=False)
    assert slides["n_cal"].unique().to_list() == [30]
    far = slides.with_columns(bag_p=pl.lit(0.5))  # no slide happens to be far
    assert stain_tables.summary(far, 29, 0.05, 1)["flagged_by"][0] == "bag_p"
    for least, by in ((19, "bag_p"), (18, "bag_p_train"), (0, "bag_p_train")):
        fewer = slides.with_columns(
            n_cal=pl.when(pl.col("slide_id") == "S0").then(least).otherwise(99)
        )
        assert stain_tables.summary(fewer, 29, 0.05, 1)["flagged_by"][0] == by


def test_one_test_slide_has_no_spread_and_does_not_spoil_the_others(
    files: Path, tables: dict[str, pl.DataFrame]
) -> None:
    model, _ = checkpoint.load_model(files / "fold-0", torch.device("cpu"))
    law = reference.load(files / "fold-0.safetensors")
    assert stain.StainFold(0, model, law, {"S0": np.ones(GENES)}).spread is None
    two = stain.StainFold(0, model, law, {"S0": np.zeros(GENES), "S1": np.ones(GENES)}).spread
    assert two == pytest.approx((np.sqrt(0.5) / np.linspace(0, 1.5, GENES)[1:]).mean(), rel=1e-5)
    slides = tables["slides"].with_columns(
        fold=pl.when(pl.col("slide_id") == "S0").then(0).otherwise(1),
        spread=pl.when(pl.col("slide_id") == "S0").then(None).otherwise(0.25),
    )
    some = stain_tables.summary(slides, 29, 0.05, 1)
    np.testing.assert_allclose(some["of_spread"], some["moved"] / 0.25)
    assert some["note"][0].startswith("1 of 2 folds have one test slide")
    none = stain_tables.summary(slides.with_columns(spread=pl.lit(None, pl.Float64)), 29, 0.05, 1)
    assert none["of_spread"].null_count() == none["of_spread_low"].null_count() == none.height
    assert none["note"].unique().to_list() == [stain_tables.ONE_SLIDE]
    found = shift_section.stain(none, tables["genes"])
    assert found is not None
    assert (found["rows"][2]["of_spread"], found["note"]) == (None, stain_tables.ONE_SLIDE)
    assert tables["stain"]["note"].unique().to_list() == [""]


def test_genes_shift_is_the_mean_over_slides(files: Path, tables: dict[str, pl.DataFrame]) -> None:
    shifts = np.array([shift for *_, shift in stain.stain_rows(inputs(files), setup())])
    assert np.isnan(shifts[:, :, 0]).all()  # a gene that doesn't vary
    genes = tables["genes"]
    assert genes["gene"].n_unique() == GENES - 1
    row = genes.filter(pl.col("kind") == "contrast", pl.col("strength") == 0.7).row(3, named=True)
    place = CHANGES.index(("contrast", 0.7))
    assert row["shift"] == pytest.approx(shifts[:, place, 4].mean())
    assert row["size"] == pytest.approx(np.abs(shifts[:, place, 4]).mean())
    assert row["n_slides"] == 2
    moved = tables["slides"].filter(pl.col("kind") == "contrast", pl.col("strength") == 0.7)
    np.testing.assert_allclose(moved["moved"], np.abs(shifts[:, place, 1:]).mean(axis=1))


def test_fewer_tiles_are_a_seeded_choice_and_not_compared_with_the_stored(files: Path) -> None:
    found = [
        list(stain.stain_rows(inputs(files), setup(threads, slides=1, tiles=9)))
        for threads in (1, 2)
    ]
    for one in found:
        assert len(one) == 1
        assert one[0][1][0]["n_tiles"] <= 9
        assert one[0][1][0]["stored_off"] is None
    np.testing.assert_array_equal(found[0][0][2], found[1][0][2])


def test_a_slide_that_is_gone_is_named(files: Path) -> None:
    fold, _ = stain._load_fold(*(p[0] for p in (inputs(files).models, inputs(files).draws,
                          inputs(files).judged, inputs(files).familiar)), setup())  # fmt: skip
    row = {"slide_id": "S0", "path": None, "mpp": None}
    with pytest.raises(StageError, match=r"slide S0: .*tiles"):
        stain.perturb_slide(fold, row, files / "tiles", setup())


def test_another_encoder_is_refused(files: Path) -> None:
    other = SimpleNamespace(**(vars(setup()) | {"encoder": SimpleNamespace(dim=224)}))
    with pytest.raises(StageError, match=r"6 features.* 224"):
        next(stain.stain_rows(inputs(files), other))


def test_the_command_refuses_features_of_ones_own(repo: Path, tmp_path: Path) -> None:
    main = runpy.run_path(str(repo / "scripts/stain.py"))["main"]
    names = ("models", "draws", "judged", "familiar", "slides", "tiles", "cohort", "run", "out")
    command = [part for name in names for part in (f"--{name}", str(tmp_path))]
    with pytest.raises(ConfigError, match="tiles"):
        main([*command, "--features-settings", '{"encoder": "files"}'])


def test_report_counts_changes_beyond_the_null(tmp_path: Path) -> None:
    genes = [f"G{i}" for i in range(40)]
    add_stain(tmp_path, "run", genes)
    table, of_genes = (
        pl.read_parquet(tmp_path / f"stain/run/{n}.parquet") for n in ("stain", "genes")
    )
    found = shift_section.stain(table, of_genes)
    assert found is not None
    assert (found["n_over"], found["n_changes"]) == (4, len(CHANGES) - 1)
    assert found["largest"]["kind"] == "sharpness"
    assert [row["name"] for row in found["rows"][:2]] == ["as they are", HALF_TILES]
    assert len(found["genes"]) == shift_section.MOVED
    assert all(row["kind"] == "sharpness" for row in found["genes"])
    texts = [shift_section.label(*change) for change in CHANGES]
    assert {"blur, 2 px", "unsharp, 100 %", "hue −0.03 turns", "JPEG quality 70"} <= set(texts)
    assert len(set(texts)) == len(texts)
