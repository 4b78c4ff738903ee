"""Maps of one slide as files: a table, a picture per name, GeoJSON, and what was done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import STEP_VERSIONS, __version__
from slide2rna.core import files, output_folder
from slide2rna.core.errors import SlideError
from slide2rna.core.files import read_json
from slide2rna.core.log import log, progress
from slide2rna.maps import captions, geojson, window_predictions
from slide2rna.maps import figure as map_figure
from slide2rna.maps.targets import Targets
from slide2rna.maps.window_predictions import WindowMoments
from slide2rna.maps.windows import Indices, WindowShape, cells_of, sliding
from slide2rna.package import training_slides
from slide2rna.package.predictor import Predictor
from slide2rna.predict import encode_slide, predict
from slide2rna.predict.encode_slide import EncodedSlide
from slide2rna.report.figures.style import plt
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tiles import Tiling, fingerprint
from slide2rna.studies.shift import decision

FORMAT = 2
EVERY_TILE = 1 << 30
DEFINITIONS = {
    "mean": "average over the windows that hold the tile and over fold models of their posterior "
    "means",
    "sd": "of the mixture, in equal shares, of all these windows' and fold models' laws: draws, "
    "windows and models together",
    "sd_models": "sd over fold models of their averages over the windows",
    "n_windows": "windows that hold the tile; without one there is no value",
    "low, high": "1st and 99th percentile of mean over tiles",
    "train_sd": "sd between the samples of the training",
    "r": "between test patients of the training cohort; says nothing of places within a slide",
}


@dataclass(frozen=True)
class MapOptions:
    """What a user may choose; see `slide2rna maps --help`."""

    shape: WindowShape
    draws: int = 20
    seed: int | None = None
    mpp: float | None = None
    max_tiles: int | None = None
    threads: int = 1


def map_slide(
    path: Path, predictor: Predictor, targets: Targets, options: MapOptions, out: Path
) -> dict[str, Any]:
    """Map one slide into `out`; maps.json comes last and vouches for the others.

    Features are kept in features.h5, so that other genes of the same slide need no encoder.

    Returns
    -------
    dict
        The content of maps.json.

    Raises
    ------
    SlideError
        The slide can't be read, or has too little tissue for a window.
    ConfigError
        `out` is a file, or nothing can be written there.
    """
    check_slide(path)
    output_folder.make_output_folder(out, "give another --out")
    seed = predictor.about["seed"] if options.seed is None else options.seed
    slide = _encode(path, predictor, options, out)
    if slide.tiling is None:  # not for a slide, and mypy can't know
        raise SlideError(path, "it has no tiles", "give the slide")
    key = _key(slide, predictor, targets, options, seed)
    if (known := complete_record(out, key)) is not None:
        log.info("%s: the same maps are there already", slide.name)
        return known
    size = int(slide.tiling.table["size"][0])
    coords = slide.features.coords
    windows = sliding(cells_of(coords, size, path), options.shape, path)
    log.info("%s: %d tiles, %d windows", slide.name, len(coords), len(windows))
    whole = encode_slide.bag(slide.features.features, predictor, slide.name)
    laws, shift = _ask(slide, predictor, whole, windows, targets, options.draws, seed)
    found = window_predictions.combine(laws, windows, len(coords))
    tiles = pl.DataFrame({"x": coords[:, 0], "y": coords[:, 1]}).with_columns(
        size=pl.lit(size, pl.Int64)
    )
    table = window_predictions.table(tiles, found, targets)
    about, folds = predictor.about, len(predictor.members)
    facts = slide.facts | training_slides.training_facts(predictor.known, slide.name, *whole)
    rows = captions.map_rows(predictor, targets, found)
    clear_record(out)
    stamp = {"slide": slide.name}
    files.write_stamped(table, out / TABLE, stamp, about["caveat"])
    origin = geojson.qupath_origin(path)
    geojson.write(table, targets.titles, out / TILES, slide.name, origin)
    notes = [captions.caption(row, facts, shift, folds) for row in rows]
    _draw(path, table, rows, notes, slide.tiling, options, out)
    told = {
        "format": FORMAT,
        "key": key,
        "slide": slide.name,
        "cohort": about["cohort"],
        "run": about["run"],
        "caveat": about["caveat"],
        "version": __version__,
        "window": options.shape.window,
        "stride": options.shape.stride,
        "min_tiles": options.shape.least,
        "n_windows": len(windows),
        "n_tiles": len(coords),
        "n_tiles_without": int((found["n_windows"] == 0).sum()),
        "folds": folds,
        "draws_per_fold": options.draws,
        "seed": seed,
        "tile_px": size,
        "qupath_origin_px": list(origin),
        "facts": facts,
        "shift": shift,
        "warnings": predict.of_slide(facts, shift, folds),
        "maps": rows,
        "definitions": DEFINITIONS,
    }
    files.write_json(told, out / RECORD)
    return told


def check_slide(path: Path) -> None:
    """See that there is a file to map.

    Raises
    ------
    SlideError
        There is none, or it can't be a slide.
    """
    if encode_slide.is_features(path):
        cause = "these are features; a map needs the picture and the size of the tiles"
        raise SlideError(path, cause, "give the slide")
    encode_slide.check(path)


def _encode(path: Path, predictor: Predictor, options: MapOptions, out: Path) -> EncodedSlide:
    """Tiles and features; unlike for a prediction, all tiles, so that the map has no holes."""
    tiles = predictor.about["tiles"]
    if tiles is not None:
        most = options.max_tiles or EVERY_TILE
        about = predictor.about | {"tiles": tiles | {"max_tiles": most}}
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
    chosen = (options.shape, options.draws, seed, targets.keys, predictor.key, slide.facts["key"])
    return fingerprint(FORMAT, STEP_VERSIONS["sample"], *map(str, chosen))


def _ask(
    slide: EncodedSlide,
    predictor: Predictor,
    whole: tuple[encode_slide.Array, encode_slide.Array],
    windows: list[Indices],
    targets: Targets,
    draws: int,
    seed: int,
) -> tuple[list[WindowMoments], dict[str, Any]]:
    """Each fold model's laws, and whether the whole slide is like the training slides."""
    settings = {name: predictor.about[name] for name in ("bags", "sample")}
    laws, verdicts = [], []
    for member in predictor.members:
        found = window_predictions.window_moments(
            member, slide.features.features, windows, targets, settings, seed, slide.name, draws
        )
        laws.append(found)
        if member.familiar is not None:
            verdicts.append({"fold": member.number} | member.familiar.judge(*whole))
        del member  # or two would be in memory while the next is read
    return laws, decision.decide(verdicts, predictor.about["alpha"])


def _draw(
    path: Path,
    table: pl.DataFrame,
    rows: list[dict[str, Any]],
    notes: list[str],
    tiling: Tiling,
    options: MapOptions,
    out: Path,
) -> None:
    """A picture per row; an interruption leaves none, for no record would list them."""
    with open_slide(path, options.mpp) as slide:
        picture = map_figure.picture(slide, tiling)
    made: list[Path] = []
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
            made.append(out / row["picture"])
            with files.atomic(made[-1]) as partial:
                figure.savefig(partial, dpi=150, metadata={"Software": None})
            plt.close(figure)
    except BaseException:
        for one in made:
            one.unlink(missing_ok=True)
        raise


RECORD, TABLE, TILES, FEATURES = "maps.json", "maps.parquet", "maps.geojson", "features.h5"


def read_record(out: Path) -> dict[str, Any]:
    """The record of the folder; empty without one that can be read."""
    path = out / RECORD
    try:
        found = read_json(path) if path.is_file() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "key" in found else {}


def picture_names(record: dict[str, Any]) -> list[str]:
    """Names of the pictures that a record lists, all of them in its own folder."""
    return [Path(row["picture"]).name for row in record.get("maps", [])]


def complete_record(out: Path, key: str) -> dict[str, Any] | None:
    """The folder's record, if it is of this key and all files that it lists are there."""
    record = read_record(out)
    if record.get("key") != key:
        return None
    files = [TABLE, TILES, *picture_names(record)]
    return record if all((out / name).is_file() for name in files) else None


def clear_record(out: Path) -> None:
    """Remove the record and its pictures: those of other names would pass for the next run's.

    The record goes last, so that an interrupted clearing can be done again.
    """
    for name in [*picture_names(read_record(out)), RECORD]:
        (out / name).unlink(missing_ok=True)
