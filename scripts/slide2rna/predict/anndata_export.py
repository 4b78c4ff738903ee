"""Predictions as AnnData, for scanpy and whatever else reads .h5ad files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import polars as pl

from slide2rna import __version__
from slide2rna.core import files
from slide2rna.core.errors import StageError, listing
from slide2rna.core.log import progress
from slide2rna.predict import test_samples
from slide2rna.predict.predict import Prediction
from slide2rna.predict.test_samples import Rows

UNITS = "log2(FPKM-UQ + 1), as the expression table of the cohort"
LAYERS = ("sd", "q05", "q95")
STAMPS = ("cohort", "run", "protocol", "caveat")


def run_to_anndata(folder: str | Path, run: str) -> anndata.AnnData:
    """The test samples of a run, each once, predicted by the model that hasn't seen it.

    Parameters
    ----------
    folder : results/<cohort>.
    run : <encoder>-<model>-<pathways>.

    Returns
    -------
    AnnData
        X (n, G) float32, the point prediction; layers `sd`, `q05`, `q95` of the draws (left out
        for a model without draws) and `measured`, all in log2(x + 1). Points of a sample's slides
        are averaged, and their draws pooled in equal shares; without the draws themselves
        (`sample.keep: summary`) a pool has no quantiles, and these are NaN. `obs` is
        samples.parquet, `var` genes.parquet, each of the evaluation; `uns` says what it is of.

    Raises
    ------
    StageError
        A table is missing, or lacks a sample or its slides.
    """
    folder = Path(folder)
    samples = _table(folder / f"evaluation/{run}/samples.parquet", "evaluate")
    genes = _table(folder / f"evaluation/{run}/genes.parquet", "evaluate")
    samples = samples.unique("sample_id", keep="first", maintain_order=True)
    slides = _table(folder / "slides.parquet", "cohort")
    names = genes["gene"].to_list()
    place = {sample: row for row, sample in enumerate(samples["sample_id"])}
    layers = {
        name: np.full((len(place), len(names)), np.nan, np.float32) for name in ("point", *LAYERS)
    }
    owner = dict(slides.select("slide_id", "sample_id").iter_rows())

    def pooled() -> Iterator[tuple[str, dict[str, Rows]]]:
        for fold in sorted(set(samples["fold"])):
            wanted = set(samples.filter(pl.col("fold") == fold)["sample_id"])
            path = folder / f"draws/{run}/fold-{fold}.parquet"
            yield from test_samples.of_fold(path, wanted, owner, names)

    for sample, found in progress(pooled(), "AnnData, samples", len(place)):
        for name, values in layers.items():
            values[place[sample]] = found[name]
    lost = [sample for sample, row in place.items() if np.isnan(layers["point"][row]).all()]
    if lost:
        cause = f"no test slide of {listing(lost)}"
        raise StageError(folder / f"draws/{run}", cause, "sample this run anew")
    point = layers.pop("point")
    kept = {name: values for name, values in layers.items() if np.isfinite(values).any()}
    kept["measured"] = _measured(folder / "expression.parquet", list(place), names)
    about = files.read_json(folder / "cohort.json")
    return anndata.AnnData(
        X=point,
        obs=_frame(samples.drop("protocol", strict=False), "sample_id"),
        var=_frame(genes, "gene"),
        layers=kept,
        uns=_about(about.get("name") or folder.name, run, about.get("caveat"))
        | {"X": "point prediction of the fold model that has not seen the sample"},
    )


def write(found: anndata.AnnData, path: str | Path) -> None:
    """Write .h5ad, all or nothing."""
    with files.atomic(path) as partial:
        # Text stays text: as categories it would be other columns than the tables'.
        found.write_h5ad(
            partial,
            compression="gzip",
            compression_opts=1,
            convert_strings_to_categoricals=False,
        )


def _table(path: Path, stage: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StageError(path, f"not readable ({error})", f"run the stage {stage}") from error


def _measured(path: Path, samples: list[str], genes: list[str]) -> Rows:
    table = pl.read_parquet(path, columns=["sample_id", *genes])
    place = {sample: row for row, sample in enumerate(table["sample_id"])}
    lost = [sample for sample in samples if sample not in place]
    if lost:
        raise StageError(path, f"no row of {listing(lost)}", "evaluate the cohort anew")
    values = table.drop("sample_id").cast(pl.Float32).to_numpy()
    return np.ascontiguousarray(values[[place[sample] for sample in samples]])


def _about(cohort: str | None, run: str, caveat: str | None) -> dict[str, Any]:
    """What an .h5ad file can hold: no None."""
    return {
        "cohort": cohort or "",
        "run": run,
        "slide2rna_version": __version__,
        "caveat": caveat or "",
        "units": UNITS,
    }


def _frame(table: pl.DataFrame, index: str) -> pd.DataFrame:
    """A table as .h5ad holds one: no lists (names joined, folds counted), no missing text."""
    columns: dict[str, Any] = {}
    for name, values in table.drop(*STAMPS, index, strict=False).to_dict().items():
        if values.dtype == pl.List(pl.String):
            columns[name] = values.list.join("; ").fill_null("").to_numpy()
        elif isinstance(values.dtype, pl.List):
            columns[name] = values.list.len().fill_null(0).cast(pl.Int64).to_numpy()
        elif values.dtype in (pl.String, pl.Null):
            columns[name] = values.cast(pl.String).fill_null("").to_numpy()
        elif values.dtype == pl.Boolean and values.null_count():
            columns[name] = pd.array(values.to_list(), dtype="boolean")
        else:
            columns[name] = values.to_numpy()
    return pd.DataFrame(columns, index=pd.Index(table[index].to_list(), name=index))


def prediction_to_anndata(
    found: Sequence[Prediction], about: dict[str, Any] | None = None
) -> anndata.AnnData:
    """Predictions of new slides by one model: a row per slide.

    Parameters
    ----------
    about : the content of the model's predictor.json.

    Returns
    -------
    AnnData
        X (n, G) float32, the point; layers `mean`, `sd`, `q05`, `q50`, `q95` of the draws and
        `low90`, `high90`, the conformal intervals, where there are any; `obs` how far each slide
        is from training, and what was read of it; `var` what is known of each gene from the
        training cohort's test patients; `obsm["pathways"]` (n, P) mean scores of the
        pathways that `uns["pathways"]` names.

    Raises
    ------
    StageError
        They are of different genes, so of different models.
    """
    first = found[0].genes
    names = first["gene"].to_list()
    for one in found[1:]:
        if one.genes["gene"].to_list() != names:
            cause = f"its genes differ from those of {found[0].name}"
            raise StageError(one.name, cause, "predict both with the same model")

    def rows(column: str) -> Rows:
        return np.stack([one.genes[column].cast(pl.Float32).to_numpy() for one in found])

    layers = {}
    for name in ("mean", "sd", "q05", "q50", "q95", "low90", "high90"):
        if name in first.columns and np.isfinite(values := rows(name)).any():
            layers[name] = values
    known = ("r", "r_low", "r_high", "reliability", "train_mean", "train_sd")
    var = first.select("gene", *(name for name in known if name in first.columns))
    obs = pl.DataFrame(
        [
            {"slide": one.name, "warnings": "; ".join(one.warnings)}
            | {key: value for key, value in one.shift.items() if _plain(value)}
            | {key: value for key, value in one.facts.items() if _plain(value)}
            for one in found
        ],
        infer_schema_length=None,
    )
    pathways = np.stack([one.pathways["mean"].to_numpy() for one in found])
    sets = found[0].pathways["pathway"].to_list()
    about = about or {}
    return anndata.AnnData(
        X=rows("point"),
        obs=_frame(obs, "slide"),
        var=_frame(var, "gene"),
        layers=layers,
        obsm={"pathways": pathways} if pathways.shape[1] else {},
        uns=_about(about.get("cohort"), about.get("run") or "", about.get("caveat"))
        | {"X": "point prediction, the mean over fold models"}
        | ({"pathways": np.array(sets, dtype=object)} if sets else {}),
    )


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float) or value is None
