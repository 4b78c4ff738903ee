"""A run's test samples as AnnData: each once, pooled over its slides, and read back by anndata."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import synthetic_cohort
import written_reports
import zarr
from pyarrow.parquet import ParquetWriter
from slide2rna.core.errors import StageError
from slide2rna.predict import anndata_export
from slide2rna.sampling.draw_summary import QUANTILES, DrawStats
from slide2rna.storage import parquet

RUN = synthetic_cohort.RUN


def summarise(folder: Path, draws: bool = True) -> None:
    """The summary beside each draws file: a row group per slide, as the stage sample leaves it."""
    for path in sorted((folder / f"draws/{RUN}").glob("*.zarr")):
        store = zarr.open_group(path, mode="r")
        genes = list(store.attrs["genes"])
        numbers = ["mean", "sd", *QUANTILES, "point"]
        schema = pa.schema(
            [(name, pa.string()) for name in ("slide_id", "part", "gene")]
            + [(name, pa.float32()) for name in numbers]
        )
        with ParquetWriter(path.with_suffix(".parquet"), schema) as writer:
            slides = zip(store.attrs["slide_ids"], store.attrs["parts"], strict=True)
            for row, (slide, part) in enumerate(slides):
                stats = DrawStats(len(genes))
                stats.add(np.asarray(store["draws"][row], np.float32))
                found = stats.result()
                values = [found["mean"], found["sd"], *found["quantiles"]]
                if not draws:
                    values = [np.full(len(genes), np.nan, np.float32)] * len(values)
                columns = [[slide] * len(genes), [part] * len(genes), genes, *values]
                columns.append(np.asarray(store["point"][row]))
                writer.write_table(
                    pa.Table.from_arrays([pa.array(c) for c in columns], schema=schema)
                )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    written_reports.make(folder, patients=45, genes=30, draws=25, caveat=written_reports.CAVEAT)
    summarise(folder)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> anndata.AnnData:
    anndata_export.write(anndata_export.run_to_anndata(folder, RUN), folder / "export.h5ad")
    return anndata.read_h5ad(folder / "export.h5ad")


def test_every_sample_is_there_once_with_what_is_known_of_it(
    folder: Path, found: anndata.AnnData
) -> None:
    samples = pl.read_parquet(folder / f"evaluation/{RUN}/samples.parquet")
    assert found.obs_names.to_list() == samples["sample_id"].to_list()
    assert found.obs_names.is_unique
    for name in ("patient_id", "fold", "site", "n_slides", "n_tiles", "rmse", "covered90"):
        assert found.obs[name].to_list() == samples[name].to_list()
    assert set(found.obs["n_slides"]) == {1, 2}
    assert found.uns["run"] == RUN
    assert found.uns["caveat"] == written_reports.CAVEAT
    assert found.uns["cohort"] == "synthetic"


def test_genes_carry_their_metrics(folder: Path, found: anndata.AnnData) -> None:
    genes = pl.read_parquet(folder / f"evaluation/{RUN}/genes.parquet")
    assert found.var_names.to_list() == genes["gene"].to_list()
    np.testing.assert_array_equal(found.var["r"], genes["r"].to_numpy())
    assert np.isnan(found.var["r"].iloc[0])  # the gene that never varies
    assert found.var["pathways"].iloc[1] == "; ".join(genes["pathways"][1])
    inside = next(name for name in genes.columns if name.startswith("in_T"))
    assert found.var[inside].to_list() == [len(folds) for folds in genes[inside]]


def test_values_are_those_of_the_evaluation(folder: Path, found: anndata.AnnData) -> None:
    """Points of slides averaged, draws pooled: rmse and coverage of samples.parquet come out."""
    expression = pl.read_parquet(folder / "expression.parquet")
    measured = expression.filter(pl.col("sample_id").is_in(list(found.obs_names)))
    measured = measured.sort("sample_id").drop("sample_id").to_numpy()
    np.testing.assert_allclose(found.layers["measured"], measured, rtol=1e-6)
    error = (found.X - found.layers["measured"])[:, 1:]  # but the constant gene
    np.testing.assert_allclose(np.sqrt((error**2).mean(axis=1)), found.obs["rmse"], rtol=1e-5)
    inside = (found.layers["q05"] <= measured) & (measured <= found.layers["q95"])
    # Float16 draws of two slides against float32 quantiles: a tie apart at the most.
    covered = inside.mean(axis=1)
    assert np.abs(covered - found.obs["covered90"].to_numpy()).max() < 1.5 / found.n_vars


def test_a_pool_of_two_slides_is_a_mixture(folder: Path, found: anndata.AnnData) -> None:
    sample = found.obs_names[found.obs["n_slides"] == 2][0]
    slides = pl.read_parquet(folder / "slides.parquet").filter(pl.col("sample_id") == sample)
    fold = found.obs.loc[sample, "fold"]
    store = zarr.open_group(folder / f"draws/{RUN}/fold-{fold}.zarr", mode="r")
    rows = [list(store.attrs["slide_ids"]).index(name) for name in slides["slide_id"]]
    draws = np.concatenate([np.asarray(store["draws"][row], np.float64) for row in rows])
    own = found[sample]
    np.testing.assert_allclose(own.layers["sd"][0], draws.std(axis=0), rtol=0.03, atol=1e-6)
    np.testing.assert_allclose(
        own.layers["q95"][0], np.quantile(draws, 0.95, axis=0, method="weibull"), rtol=1e-5
    )
    # Averaged draw by draw, the ends would lie closer together: sd / sqrt(2) of two alike.
    single = np.mean([np.asarray(store["sd"][row]) for row in rows], axis=0)
    assert (own.layers["sd"][0][1:] > 0.95 * single[1:]).all()


def test_without_draws(folder: Path, tmp_path: Path) -> None:
    """Kept as a summary, a pool has no quantiles; points alone have no layers of draws."""
    copy = tmp_path / "cohort"
    shutil.copytree(folder, copy)
    for path in (copy / f"draws/{RUN}").glob("*.zarr"):
        shutil.rmtree(path / "draws")
    found = anndata_export.run_to_anndata(copy, RUN)
    two = (found.obs["n_slides"] == 2).to_numpy()
    assert np.isnan(found.layers["q95"][two]).all()
    assert np.isfinite(found.layers["q95"][~two]).all()
    assert np.isfinite(found.layers["sd"]).all()
    shutil.rmtree(copy / "draws")
    shutil.copytree(folder / "draws", copy / "draws")
    summarise(copy, draws=False)
    for path in (copy / f"draws/{RUN}").glob("*.zarr"):
        for name in ("draws", "mean", "sd"):
            shutil.rmtree(path / name)
    assert set(anndata_export.run_to_anndata(copy, RUN).layers) == {"measured"}


def test_missing_tables_are_named(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cohort"
    shutil.copytree(folder, copy)
    slides = pl.read_parquet(copy / "slides.parquet")
    lost = slides["sample_id"][0]
    parquet.write(slides.filter(pl.col("sample_id") != lost), copy / "slides.parquet")
    with pytest.raises(StageError, match=f"test slide of {lost};"):
        anndata_export.run_to_anndata(copy, RUN)
    (copy / f"evaluation/{RUN}/samples.parquet").unlink()
    with pytest.raises(StageError, match=r"samples\.parquet: .*stage evaluate"):
        anndata_export.run_to_anndata(copy, RUN)


def prediction(name: str, genes: list[str]) -> SimpleNamespace:
    count = len(genes)
    values = {key: np.linspace(1, 2, count) for key in ("point", "mean", "sd", "q05", "q50", "q95")}
    nothing = pl.Series([None] * count, dtype=pl.Float64)
    table = pl.DataFrame(
        {"gene": genes}
        | values
        | {"low90": nothing, "high90": nothing, "r": nothing}
        | {"reliability": ["weak"] * count, "train_mean": values["mean"]}
    )
    scores = pl.DataFrame({"pathway": ["GO:1", "GO:2"], "mean": [0.5, -0.5]})
    return SimpleNamespace(
        name=name,
        genes=table,
        pathways=scores,
        shift={"bag_p": 0.04, "folds": [0.04], "shifted": True if name == "b" else None},
        facts={"n_tiles": 12, "mpp": None, "size": [10, 20]},
        warnings=["far from training"] if name == "b" else [],
    )


def test_predictions_of_new_slides(tmp_path: Path) -> None:
    both = [prediction("a", ["G1", "G2", "G3"]), prediction("b", ["G1", "G2", "G3"])]
    anndata_export.write(
        anndata_export.prediction_to_anndata(both, {"cohort": "demo", "run": RUN}),
        tmp_path / "p.h5ad",
    )
    found = anndata.read_h5ad(tmp_path / "p.h5ad")
    assert found.shape == (2, 3)
    assert set(found.layers) == {"mean", "sd", "q05", "q50", "q95"}  # no intervals: refused
    assert found.obs["bag_p"].to_list() == [0.04, 0.04]
    assert found.obs["shifted"].isna().to_list() == [True, False]
    assert found.obs["warnings"].to_list() == ["", "far from training"]
    assert found.var["reliability"].to_list() == ["weak"] * 3
    place = found.uns["pathways"].tolist().index("GO:2")
    assert found.obsm["pathways"][:, place].tolist() == [-0.5, -0.5]
    assert (found.uns["cohort"], found.uns["run"]) == ("demo", RUN)
    with pytest.raises(StageError, match=r"b: .*genes.* a"):
        anndata_export.prediction_to_anndata([both[0], prediction("b", ["G1", "G3", "G2"])])
