"""AnnData export of predictions, for scanpy and other readers of .h5ad files."""

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
from slide2rna.core.errors import StageError, list_names
from slide2rna.core.log import progress
from slide2rna.predict import test_samples
from slide2rna.predict.predict import Prediction
from slide2rna.predict.test_samples import Rows, SampleSummary
from slide2rna.storage import parquet

UNITS = "log2(FPKM-UQ + 1), as the expression table of the cohort"
LAYERS = ("sd", "q05", "q95")
STAMPS = ("cohort", "run", "protocol", "caveat")


def run_to_anndata(folder: str | Path, run: str) -> anndata.AnnData:
    """Export the test samples of a run, each once, with their held-out predictions.

    Parameters
    ----------
    folder : results/<cohort>.
    run : <encoder>-<model>-<pathways>.

    Returns
    -------
    AnnData
        X (n, G) float32, the point prediction; layers `sd`, `q05`, `q95` of the draws (left out
        for a model without draws) and `measured`, all in log2(x + 1). Points of a sample's slides
        are averaged, and their draws pooled in equal shares. Without the stored draws
        (`sample.keep: summary`) a pool's quantiles are NaN. `obs` is samples.parquet and `var` is
        genes.parquet of the evaluation; `uns` has cohort, run, version, caveat and units.

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
    sample_row = {sample: row for row, sample in enumerate(samples["sample_id"])}
    shape = (len(sample_row), len(names))
    layers = {name: np.full(shape, np.nan, np.float32) for name in ("point", *LAYERS)}
    sample_by_slide = dict(slides.select("slide_id", "sample_id").iter_rows())

    def summaries() -> Iterator[tuple[str, SampleSummary]]:
        for fold in sorted(set(samples["fold"])):
            fold_samples = set(samples.filter(pl.col("fold") == fold)["sample_id"])
            path = folder / f"draws/{run}/fold-{fold}.parquet"
            yield from test_samples.read_fold(path, fold_samples, sample_by_slide, names)

    for sample, summary in progress(summaries(), "AnnData, samples", len(sample_row)):
        for name, values in layers.items():
            values[sample_row[sample]] = summary[name]
    missing = [sample for sample, row in sample_row.items() if np.isnan(layers["point"][row]).all()]
    if missing:
        cause = f"no test slide of {list_names(missing)}"
        raise StageError(folder / f"draws/{run}", cause, "rerun sampling for this run")
    point = layers.pop("point")
    layers = {name: values for name, values in layers.items() if np.isfinite(values).any()}
    layers["measured"] = _measured(folder / "expression.parquet", list(sample_row), names)
    about = files.read_json(folder / "cohort.json")
    return anndata.AnnData(
        X=point,
        obs=_frame(samples.drop("protocol", strict=False), "sample_id"),
        var=_frame(genes, "gene"),
        layers=layers,
        uns=_uns(about.get("name") or folder.name, run, about.get("caveat"))
        | {"X": "held-out point prediction: the fold model hasn't seen the sample"},
    )


def write(data: anndata.AnnData, path: str | Path) -> None:
    """Write .h5ad atomically."""
    with files.atomic(path) as partial:
        # Text stays text: categories would differ from the columns of the tables.
        data.write_h5ad(
            partial,
            compression="gzip",
            compression_opts=1,
            convert_strings_to_categoricals=False,
        )


def _table(path: Path, stage: str) -> pl.DataFrame:
    try:
        return parquet.read(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StageError(path, f"not readable ({error})", f"run the stage {stage}") from error


def _measured(path: Path, samples: list[str], genes: list[str]) -> Rows:
    table = parquet.read(path, columns=["sample_id", *genes])
    sample_row = {sample: row for row, sample in enumerate(table["sample_id"])}
    missing = [sample for sample in samples if sample not in sample_row]
    if missing:
        raise StageError(path, f"no row of {list_names(missing)}", "rerun the stage evaluate")
    values = table.drop("sample_id").cast(pl.Float32).to_numpy()
    return np.ascontiguousarray(values[[sample_row[sample] for sample in samples]])


def _uns(cohort: str | None, run: str, caveat: str | None) -> dict[str, Any]:
    """Return `uns` of an .h5ad file, which can't hold None."""
    return {
        "cohort": cohort or "",
        "run": run,
        "slide2rna_version": __version__,
        "caveat": caveat or "",
        "units": UNITS,
    }


def _frame(table: pl.DataFrame, index: str) -> pd.DataFrame:
    """Convert a table for .h5ad: no lists (names joined, folds counted), no missing text."""
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
    predictions: Sequence[Prediction], about: dict[str, Any] | None = None
) -> anndata.AnnData:
    """Export predictions of new slides by one model, a row per slide.

    Parameters
    ----------
    about : the content of the model's predictor.json.

    Returns
    -------
    AnnData
        X (n, G) float32, the point; layers `mean`, `sd`, `q05`, `q50`, `q95` of the draws and
        `low90`, `high90`, the conformal intervals, where available; `obs` distances from training,
        warnings and facts of each slide; `var` test scores of each gene on the training cohort's
        test patients; `obsm["pathways"]` (n, P) mean scores of the pathways in `uns["pathways"]`.

    Raises
    ------
    StageError
        The predictions have different genes, so they come from different models.
    """
    first = predictions[0].genes
    names = first["gene"].to_list()
    for prediction in predictions[1:]:
        if prediction.genes["gene"].to_list() != names:
            cause = f"its genes differ from those of {predictions[0].name}"
            raise StageError(prediction.name, cause, "predict both with the same model")

    def rows(column: str) -> Rows:
        columns = (prediction.genes[column] for prediction in predictions)
        return np.stack([values.cast(pl.Float32).to_numpy() for values in columns])

    layers = {}
    for name in ("mean", "sd", "q05", "q50", "q95", "low90", "high90"):
        if name in first.columns and np.isfinite(values := rows(name)).any():
            layers[name] = values
    test_columns = ("r", "r_low", "r_high", "reliability", "train_mean", "train_sd")
    var = first.select("gene", *(name for name in test_columns if name in first.columns))
    obs = pl.DataFrame(
        [
            {"slide": prediction.name, "warnings": "; ".join(prediction.warnings)}
            | {key: value for key, value in prediction.shift.items() if _is_scalar(value)}
            | {key: value for key, value in prediction.facts.items() if _is_scalar(value)}
            for prediction in predictions
        ],
        infer_schema_length=None,
    )
    pathways = np.stack([prediction.pathways["mean"].to_numpy() for prediction in predictions])
    sets = predictions[0].pathways["pathway"].to_list()
    about = about or {}
    return anndata.AnnData(
        X=rows("point"),
        obs=_frame(obs, "slide"),
        var=_frame(var, "gene"),
        layers=layers,
        obsm={"pathways": pathways} if pathways.shape[1] else {},
        uns=_uns(about.get("cohort"), about.get("run") or "", about.get("caveat"))
        | {"X": "point prediction, the mean over fold models"}
        | ({"pathways": np.array(sets, dtype=object)} if sets else {}),
    )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) or value is None
