"""The files of predicted slides: a folder each, and a table of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import __version__
from slide2rna.core import files, output_folder
from slide2rna.core.errors import ConfigError, SlideError
from slide2rna.core.log import log
from slide2rna.features.registry import Encoder
from slide2rna.package.predictor import Predictor
from slide2rna.predict.encode_slide import EncodedSlide, encode_slide, is_features, name_of
from slide2rna.predict.predict import Prediction, predict
from slide2rna.slides import tiles

RECORD, PAGE, H5AD = "prediction.json", "index.html", "prediction.h5ad"
FEATURES, PICTURE = "features.h5", "tiles.jpg"
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
    """How slides are predicted and what is written.

    Attributes
    ----------
    mpp : um/px of level 0 of all slides, where their files don't say or say wrong.
    draws, seed : see `predict.predict`.
    threads : of the encoder.
    weights : local file with the encoder's weights.
    page, h5ad : whether to write them.
    """

    mpp: float | None = None
    draws: int | None = None
    seed: int | None = None
    threads: int = 2
    weights: Path | None = None
    page: bool = True
    h5ad: bool = False


def predict_slides(
    predictor: Predictor, paths: Sequence[Path], out: Path, options: PredictOptions
) -> pl.DataFrame:
    """Predict slides one after the other; one that fails is named, and the others go on.

    Leaves a folder per slide in `out`, and slides.parquet, which lists them, last of all. What
    is there and was made of the same is kept, so that an interrupted run goes on.

    Returns
    -------
    A row per slide: slide, status (ok, failed), reason, shifted, bag_p, n_tiles, trained_folds
    (null for a slide that isn't of the model's cohort), warnings.

    Raises
    ------
    ConfigError
        Two slides have the same name, the model can't read slides, or `out` can't be written to or
        holds another slides.parquet.
    """
    called = [name_of(path) for path in paths]
    names = Counter(called)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        cause = f"{names[twice[0]]} of the files have this name"
        raise ConfigError(twice[0], cause, "predict them one at a time, each with its own --out")
    if not all(is_features(path) or path.is_dir() for path in paths):
        predictor.check_slides()
    output_folder.make_output_folder(out, "give another --out")
    _check_list(out / "slides.parquet")
    # Once for all slides, and not at all where features are there.
    encoder = cache(lambda: predictor.encoder(options.threads, options.weights))
    rows = []
    for number, (name, path) in enumerate(zip(called, paths, strict=True), start=1):
        log.info("%s (%d of %d)", path.name, number, len(paths))
        row: dict[str, Any] = {"slide": name, "status": "ok"}
        try:
            row |= _one(predictor, path, out / name, options, encoder)
        except SlideError as error:
            log.warning("%s failed: %s", path.name, error)
            row |= {"status": "failed", "reason": error.reason}
        rows.append(row)
    table = pl.DataFrame(rows, schema=SCHEMA)
    _list(table, out / "slides.parquet")
    return table


def _check_list(listed: Path) -> None:
    """See that it can be written without losing another table of that name."""
    try:
        known = list(pl.read_parquet_schema(listed)) if listed.is_file() else list(SCHEMA)
    except (OSError, pl.exceptions.PolarsError):
        known = []
    if not {"slide", "status", "warnings"} <= set(known):
        cause = "it isn't a list of predicted slides, and would be written over"
        raise ConfigError(listed, cause, "give a folder of its own as --out")


def _list(table: pl.DataFrame, path: Path) -> None:
    """Write the rows; slides that an earlier command left in the folder stay listed."""
    if path.is_file():
        known = pl.read_parquet(path)
        others = known.filter(~pl.col("slide").is_in(table["slide"].to_list()))
        table = pl.concat([others, table], how="diagonal_relaxed").select(list(SCHEMA))
    files.write_parquet(table.sort("slide"), path)


def _one(
    predictor: Predictor,
    path: Path,
    out: Path,
    options: PredictOptions,
    encoder: Callable[[], Encoder],
) -> dict[str, Any]:
    encoded = encode_slide(
        *(path, predictor, encoder, options.threads, options.mpp),
        keep=out / FEATURES,
        weights=options.weights,
    )
    key = tiles.fingerprint(
        __version__, predictor.key, encoded.facts["key"], options.draws, options.seed
    )
    wanted = ["genes.parquet", "pathways.parquet"]
    wanted += [PAGE] * options.page + [H5AD] * options.h5ad
    known = files.read_json(out / RECORD) if (out / RECORD).is_file() else {}
    if known.get("key") == key and all((out / name).is_file() for name in wanted):
        log.info("%s: kept, made of the same", path.name)
        return known["row"]
    prediction = predict(predictor, encoded, options.draws, options.seed)
    for warning in prediction.warnings:
        log.warning("%s: %s", path.name, warning)
    return _write(predictor, encoded, prediction, key, out, options)


def _write(
    predictor: Predictor,
    encoded: EncodedSlide,
    prediction: Prediction,
    key: str,
    out: Path,
    options: PredictOptions,
) -> dict[str, Any]:
    # The record first: it vouches for the files beside it. The others aren't made by each command
    # and would pass for made of the same as soon as there is a record again.
    drawn = (out / "figures").glob("pathways.*")
    for path in [*(out / name for name in (RECORD, PAGE, H5AD, PICTURE)), *drawn]:
        path.unlink(missing_ok=True)
    about = predictor.about
    stamp = {"slide": prediction.name, "cohort": about["cohort"], "run": about["run"]}
    files.write_stamped(prediction.genes, out / "genes.parquet", stamp, about["caveat"])
    files.write_stamped(prediction.pathways, out / "pathways.parquet", stamp, about["caveat"])
    picture = None
    if encoded.tiling is not None:
        picture = out / PICTURE
        with files.atomic(picture) as partial:
            tiles.draw(encoded.tiling).save(partial, quality=85)
    if options.page:
        from slide2rna.predict import slide_page

        slide_page.write(prediction, picture, about, out / PAGE)
    if options.h5ad:
        from slide2rna.predict import anndata_export

        anndata_export.write(anndata_export.prediction_to_anndata([prediction], about), out / H5AD)
    row = {
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
        "facts": {k: v for k, v in prediction.facts.items() if k != "key"},
        "shift": prediction.shift,
        "warnings": prediction.warnings,
    }
    files.write_json(record, out / RECORD)
    return row
