"""Predictions of several slides as files: a folder per slide, and a table of all."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import __version__
from slide2rna.core import files, output_folder
from slide2rna.core.encoder_names import WeightsFiles
from slide2rna.core.errors import ConfigError, SlideError
from slide2rna.core.log import log
from slide2rna.core.types import Mpp, Row
from slide2rna.features.registry import Encoder
from slide2rna.package.predictor import Predictor
from slide2rna.predict.encode_slide import EncodedSlide, encode_slide, is_features, slide_name
from slide2rna.predict.predict import Prediction, predict
from slide2rna.slides import tiles
from slide2rna.slides.failures import within_memory
from slide2rna.slides.tile_picture import draw
from slide2rna.storage import parquet

RECORD, PAGE, H5AD = "prediction.json", "index.html", "prediction.h5ad"
FEATURES, PICTURE = "features.h5", "tiles.jpg"
SLIDE_LIST = "slides.parquet"
SCHEMA: Any = {
    "slide": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "shifted": pl.Boolean,
    "bag_p": pl.Float64,
    "n_tiles": pl.Int64,
    "trained_folds": pl.Int64,
    "warnings": pl.List(pl.String),
}


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction and of its files.

    Attributes
    ----------
    mpp : um/px of level 0 of all slides, if their files' value is missing or wrong.
    draws, seed : see `predict.predict`.
    threads : of the encoder.
    weights : local file with the encoder's weights; with several encoders, by encoder.
    page, h5ad : whether to write them.
    """

    mpp: Mpp | None = None
    draws: int | None = None
    seed: int | None = None
    threads: int = 2
    weights: WeightsFiles = None
    page: bool = True
    h5ad: bool = False


def predict_slides(
    predictor: Predictor, paths: Sequence[Path], out: Path, options: PredictOptions
) -> pl.DataFrame:
    """Predict slides in turn; if one fails, its reason is recorded and the others continue.

    Writes a folder per slide to `out`, and finally slides.parquet, which lists them. Finished
    slides with the same inputs are skipped, so an interrupted run can be restarted.

    Returns
    -------
    A row per slide: slide, status (ok, failed), reason, shifted, bag_p, n_tiles, trained_folds
    (null for a slide outside the model's cohort), warnings.

    Raises
    ------
    ConfigError
        Two slides have the same name, the model can't read slides, or `out` can't be written to or
        holds another slides.parquet.
    """
    names = [slide_name(path) for path in paths]
    if SLIDE_LIST in names:
        cause = "the list of predicted slides has this name"
        raise ConfigError(SLIDE_LIST, cause, "rename the slide's file")
    # Some disks keep no difference of case, or of the ways to write an accent.
    folders = [unicodedata.normalize("NFC", name).casefold() for name in names]
    folder, count = Counter(folders).most_common(1)[0]
    if count > 1:
        duplicates = [name for name, key in zip(names, folders, strict=True) if key == folder]
        cause = f"{count} files have this name"
        if len(set(duplicates)) > 1:
            cause = f"{sorted({*duplicates} - {duplicates[0]})[0]} differs from it in case only"
        remedy = "predict them one at a time, each with its own --out"
        raise ConfigError(duplicates[0], cause, remedy)
    if not all(is_features(path) or path.is_dir() for path in paths):
        predictor.check_slides()
    output_folder.make_output_folder(out, "give another --out")
    _check_slide_list(out / SLIDE_LIST)
    # Loaded once for all slides, and only if a slide has no cached features.
    encoder = cache(lambda: predictor.encoder(options.threads, options.weights))
    rows = []
    for number, (name, path) in enumerate(zip(names, paths, strict=True), start=1):
        log.info("%s (%d of %d)", path.name, number, len(paths))
        row: Row = {"slide": name, "status": "ok"}
        try:
            with output_folder.alone(out, name), within_memory(path):
                row |= _predict_slide(predictor, path, out / name, options, encoder)
        except SlideError as error:
            log.warning("%s failed: %s", path.name, error)
            row |= {"status": "failed", "reason": error.reason}
        rows.append(row)
    table = pl.DataFrame(rows, schema=SCHEMA)
    with output_folder.alone(out, "slides"):
        _write_slide_list(table, out / SLIDE_LIST)
    return table


def _check_slide_list(path: Path) -> None:
    """Check that writing the list wouldn't overwrite another table of that name."""
    try:
        columns = parquet.read_foreign(path).columns if path.is_file() else list(SCHEMA)
    except (OSError, pl.exceptions.PolarsError):
        columns = []
    if not {"slide", "status", "warnings"} <= set(columns):
        cause = "this file isn't a list of predicted slides and would be overwritten"
        raise ConfigError(path, cause, "give another folder as --out")


def _write_slide_list(table: pl.DataFrame, path: Path) -> None:
    """Write the rows; slides of earlier commands in this folder stay listed."""
    if path.is_file():
        previous = parquet.read(path)
        others = previous.filter(~pl.col("slide").is_in(table["slide"].to_list()))
        table = pl.concat([others, table], how="diagonal_relaxed").select(list(SCHEMA))
    parquet.write(table.sort("slide"), path)


def _predict_slide(
    predictor: Predictor,
    path: Path,
    out: Path,
    options: PredictOptions,
    encoder: Callable[[], Encoder],
) -> Row:
    encoded = encode_slide(
        *(path, predictor, encoder, options.threads, options.mpp),
        keep=out / FEATURES,
        weights=options.weights,
    )
    key = tiles.fingerprint(
        __version__, predictor.key, encoded.facts["key"], options.draws, options.seed
    )
    required = ["genes.parquet", "pathways.parquet"]
    required += [PAGE] * options.page + [H5AD] * options.h5ad
    record = files.read_record(out / RECORD)
    if record.get("key") == key and all((out / name).is_file() for name in required):
        log.info("%s: up to date", path.name)
        return record["row"]
    prediction = predict(predictor, encoded, options.draws, options.seed)
    for warning in prediction.warnings:
        log.warning("%s: %s", path.name, warning)
    return _write_prediction(predictor, encoded, prediction, key, out, options)


def _write_prediction(
    predictor: Predictor,
    encoded: EncodedSlide,
    prediction: Prediction,
    key: str,
    out: Path,
    options: PredictOptions,
) -> Row:
    # Delete the record first: it marks the other files as valid. Not every command writes all of
    # them, so old ones would look valid under the new record.
    figures = (out / "figures").glob("pathways.*")
    for path in [*(out / name for name in (RECORD, PAGE, H5AD, PICTURE)), *figures]:
        path.unlink(missing_ok=True)
    about = predictor.about
    stamp = {"slide": prediction.name, "cohort": about["cohort"], "run": about["run"]}
    parquet.write_stamped(prediction.genes, out / "genes.parquet", stamp, about["caveat"])
    parquet.write_stamped(prediction.pathways, out / "pathways.parquet", stamp, about["caveat"])
    picture = None
    if encoded.tiling is not None:
        picture = out / PICTURE
        with files.atomic(picture) as partial:
            draw(encoded.tiling).save(partial, quality=85)
    if options.page:
        from slide2rna.predict import slide_page

        slide_page.write(prediction, picture, about, out / PAGE)
    if options.h5ad:
        from slide2rna.predict import anndata_export

        anndata_export.write(anndata_export.prediction_to_anndata([prediction], about), out / H5AD)
    row: Row = {
        "shifted": prediction.shift["shifted"],
        "bag_p": prediction.shift["bag_p"],
        "n_tiles": prediction.facts["n_tiles"],
        "trained_folds": prediction.facts["trained_folds"],
        "warnings": prediction.warnings,
    }
    record = {
        "key": key,
        "row": row,
        "slide": prediction.name,
        "model": {name: about[name] for name in ("cohort", "run", "model", "encoder", "version")},
        "caveat": about["caveat"],
        "facts": {name: value for name, value in prediction.facts.items() if name != "key"},
        "shift": prediction.shift,
        "warnings": prediction.warnings,
    }
    files.write_json(record, out / RECORD)
    return row
