"""Maps of one slide as files: a table, a picture per gene or gene set, GeoJSON, and a record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from slide2rna import STEP_VERSIONS, __version__
from slide2rna.core import files, output_folder
from slide2rna.core.errors import SlideError
from slide2rna.core.log import log, progress
from slide2rna.core.types import Array, Mpp
from slide2rna.maps import captions, geojson, mixture_predictions, window_predictions
from slide2rna.maps import figure as map_figure
from slide2rna.maps.targets import Targets
from slide2rna.maps.window_predictions import WindowMoments, WindowSettings
from slide2rna.maps.windows import Indices, WindowShape, grid_cells, sliding
from slide2rna.package import training_slides
from slide2rna.package.predictor import Predictor
from slide2rna.predict import encode_slide, predict
from slide2rna.predict.encode_slide import EncodedSlide
from slide2rna.predict.predict import SlideFacts
from slide2rna.report.figures.style import plt
from slide2rna.slides.failures import within_memory
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tiles import Tiling, fingerprint
from slide2rna.storage import parquet
from slide2rna.studies.shift import decision

FORMAT = 3
EVERY_TILE = 1 << 30
DEFINITIONS = {
    "mean": "average over the windows that hold the tile and over fold models of their posterior "
    "means",
    "sd": "of the equal mixture of the distributions of all these windows and fold models: draws, "
    "windows and models together",
    "sd_models": "sd over fold models of their averages over the windows",
    "n_windows": "windows that hold the tile; without a window the value is missing",
    "low, high": "1st and 99th percentile of mean over tiles",
    "train_sd": "sd between the training samples",
    "r": "between test patients of the training cohort, not between places within a slide",
}


@dataclass(frozen=True)
class MapOptions:
    """User options; see `slide2rna maps --help`."""

    shape: WindowShape
    draws: int = 20
    seed: int | None = None
    mpp: Mpp | None = None
    max_tiles: int | None = None
    threads: int = 1
    head: Literal["windows", "mixture"] = "windows"


def map_slide(
    path: Path, predictor: Predictor, targets: Targets, options: MapOptions, out: Path
) -> dict[str, Any]:
    """Map one slide into `out`; maps.json is written last and marks the other files as complete.

    Features are cached in features.h5, so that other genes of the same slide need no encoder.

    Returns
    -------
    dict
        The content of maps.json.

    Raises
    ------
    SlideError
        The slide can't be read, or has too little tissue for a window.
    ConfigError
        `out` is a file, or not writable.
    """
    check_slide(path)
    output_folder.make_output_folder(out, "give another --out")
    with output_folder.alone(out, "maps"), within_memory(path):
        return _map_alone(path, predictor, targets, options, out)


def _map_alone(
    path: Path, predictor: Predictor, targets: Targets, options: MapOptions, out: Path
) -> dict[str, Any]:
    """Map one slide into a folder that no other command writes."""
    seed = predictor.about["seed"] if options.seed is None else options.seed
    slide = _encode(path, predictor, options, out)
    if slide.tiling is None:  # never for a slide; for mypy
        raise SlideError(path, "it has no tiles", "give the slide")
    key = _key(slide, predictor, targets, options, seed)
    if (previous := complete_record(out, key)) is not None:
        log.info("%s: these maps are up to date", slide.name)
        return previous
    size = int(slide.tiling.table["size"][0])
    coords = slide.features.coords
    windows = sliding(grid_cells(coords, size, path), options.shape, path)
    log.info("%s: %d tiles, %d windows", slide.name, len(coords), len(windows))
    bag = encode_slide.bag(slide.features.features, predictor, slide.name)
    maps, gaps, shift = _predict_windows(slide, predictor, bag, windows, targets, options, seed)
    tiles = pl.DataFrame({"x": coords[:, 0], "y": coords[:, 1]}).with_columns(
        size=pl.lit(size, pl.Int64)
    )
    table = window_predictions.table(tiles, maps, targets)
    about, folds = predictor.about, len(predictor.fold_models)
    facts: SlideFacts = {
        **slide.facts,
        **training_slides.training_facts(predictor.cohort_slides, slide.name, *bag),
    }
    rows = captions.map_rows(predictor, targets, maps, gaps)
    clear_record(out)
    stamp = {"slide": slide.name}
    parquet.write_stamped(table, out / TABLE, stamp, about["caveat"])
    origin = geojson.qupath_origin(path)
    geojson.write(table, targets.titles, out / TILES, slide.name, origin)
    notes = [captions.caption(row, facts, shift, folds) for row in rows]
    _draw(path, table, rows, notes, slide.tiling, options, out)
    record = {
        "format": FORMAT,
        "key": key,
        "slide": slide.name,
        "cohort": about["cohort"],
        "run": about["run"],
        "caveat": about["caveat"],
        "version": __version__,
        "head": options.head,
        "window": options.shape.window,
        "stride": options.shape.stride,
        "min_tiles": options.shape.least,
        "n_windows": len(windows),
        "n_tiles": len(coords),
        "n_tiles_without": int((maps["n_windows"] == 0).sum()),
        "folds": folds,
        "draws_per_fold": options.draws,
        "seed": seed,
        "tile_px": size,
        "qupath_origin_px": list(origin),
        "facts": facts,
        "shift": shift,
        "warnings": predict.slide_warnings(facts, shift, folds),
        "maps": rows,
        "definitions": DEFINITIONS
        | (mixture_predictions.DEFINITIONS if options.head == "mixture" else {}),
    }
    files.write_json(record, out / RECORD)
    return record


def check_slide(path: Path) -> None:
    """Check that a file exists and may be a slide.

    Raises
    ------
    SlideError
        It is missing, or can't be a slide.
    """
    if encode_slide.is_features(path):
        cause = "these are features; a map needs the image and the size of the tiles"
        raise SlideError(path, cause, "give the slide")
    encode_slide.check_file(path)


def _encode(path: Path, predictor: Predictor, options: MapOptions, out: Path) -> EncodedSlide:
    """Tile and encode a slide; unlike for a prediction, with all tiles, so the map has no holes."""
    tiles = predictor.about["tiles"]
    if tiles is not None:
        max_tiles = options.max_tiles or EVERY_TILE
        about = predictor.about | {"tiles": tiles | {"max_tiles": max_tiles}}
        predictor = replace(predictor, about=about)
    return encode_slide.encode_slide(
        path,
        predictor,
        lambda: predictor.encoder(options.threads),
        options.threads,
        options.mpp,
        keep=out / FEATURES,
    )


def _key(
    slide: EncodedSlide, predictor: Predictor, targets: Targets, options: MapOptions, seed: int
) -> str:
    inputs = (options.shape, options.draws, seed, targets.keys, predictor.key, slide.facts["key"])
    return fingerprint(FORMAT, STEP_VERSIONS["sample"], *map(str, inputs), options.head)


def _predict_windows(
    slide: EncodedSlide,
    predictor: Predictor,
    bag: tuple[Array, Array],
    windows: list[Indices],
    targets: Targets,
    options: MapOptions,
    seed: int,
) -> tuple[dict[str, Array], Array | None, decision.ShiftDecision]:
    """Return the maps, the mixture head's gaps, and the shift of the whole slide."""
    settings: WindowSettings = {
        "bags": predictor.about["bags"],
        "sample": predictor.about["sample"],
    }
    moments: list[WindowMoments] = []
    points, gaps, verdicts = [], [], []
    for member in predictor.fold_models:
        arguments = (member, slide.features.features, windows, targets, settings, seed, slide.name)
        if options.head == "mixture":
            found = mixture_predictions.mixture_maps(*arguments, bag)
            moments.append(found.moments)
            points.append(found.point)
            gaps.append(found.gap)
        else:
            moments.append(window_predictions.window_moments(*arguments, options.draws))
        if member.reference is not None:
            verdicts.append({"fold": member.number} | member.reference.judge(*bag))
        del member  # otherwise two models would be in memory while the next is loaded
    shift = decision.decide(verdicts, predictor.about["alpha"])
    maps = window_predictions.combine(moments, windows, len(slide.features.coords))
    if options.head == "windows":
        return maps, None, shift
    return mixture_predictions.add_up(maps, np.mean(points, axis=0)), np.mean(gaps, axis=0), shift


def _draw(
    path: Path,
    table: pl.DataFrame,
    rows: list[captions.MapRow],
    notes: list[str],
    tiling: Tiling,
    options: MapOptions,
    out: Path,
) -> None:
    """Draw a picture per row; an interruption deletes them, since no record lists them."""
    with open_slide(path, options.mpp) as slide:
        picture = map_figure.read_picture(slide, tiling)
    pictures: list[Path] = []
    try:
        for row, note in progress(list(zip(rows, notes, strict=True)), "pictures"):
            figure = map_figure.draw(
                picture,
                table.filter(pl.col("kind") == row["kind"], pl.col("name") == row["name"]),
                row["title"],
                note,
                captions.UNITS[row["kind"]],
                captions.FLAT_SHARE * (row["train_sd"] or 0),
                "sd" if options.draws > 1 else "sd between windows and models",
            )
            pictures.append(out / row["picture"])
            with files.atomic(pictures[-1]) as partial:
                figure.savefig(partial, dpi=150, metadata={"Software": None})
            plt.close(figure)
    except BaseException:
        for drawn in pictures:
            drawn.unlink(missing_ok=True)
        raise


RECORD, TABLE, TILES, FEATURES = "maps.json", "maps.parquet", "maps.geojson", "features.h5"


def read_record(out: Path) -> dict[str, Any]:
    """Read the folder's record; empty if it is missing or invalid."""
    record = files.read_record(out / RECORD)
    return record if "key" in record else {}


def picture_names(record: dict[str, Any]) -> list[str]:
    """Return the names of a record's pictures, without folders: all are next to the record."""
    return [Path(row["picture"]).name for row in record.get("maps", [])]


def complete_record(out: Path, key: str) -> dict[str, Any] | None:
    """Return the folder's record if it has this key and all its files exist."""
    record = read_record(out)
    if record.get("key") != key:
        return None
    files = [TABLE, TILES, *picture_names(record)]
    return record if all((out / name).is_file() for name in files) else None


def clear_record(out: Path) -> None:
    """Remove the record and its pictures, so that old pictures don't seem part of the next run.

    The record is removed last, so that an interrupted removal can be repeated.
    """
    for name in [*picture_names(read_record(out)), RECORD]:
        (out / name).unlink(missing_ok=True)
