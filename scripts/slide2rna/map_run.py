"""Maps of one slide as files: a table, a picture per name, GeoJSON, and what was done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import (
    STEP_VERSIONS,
    __version__,
    encoded,
    folders,
    geojson,
    io,
    judged,
    known_slides,
    map_figure,
    map_record,
    map_told,
    maps,
    predict,
)
from slide2rna.cli import log, progress
from slide2rna.encoded import Encoded
from slide2rna.errors import SlideError
from slide2rna.figures import plt
from slide2rna.map_targets import Targets
from slide2rna.map_windows import Indices, Shape, cells_of, sliding
from slide2rna.maps import Laws
from slide2rna.predictor import Predictor
from slide2rna.slides import open_slide
from slide2rna.tiles import Tiling, fingerprint

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
class Options:
    """What a user may choose; see `slide2rna maps --help`."""

    shape: Shape
    draws: int = 20
    seed: int | None = None
    mpp: float | None = None
    max_tiles: int | None = None
    threads: int = 1


def run(
    path: Path, predictor: Predictor, targets: Targets, options: Options, out: Path
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
    folders.make(out, "give another --out")
    seed = predictor.about["seed"] if options.seed is None else options.seed
    slide = _encode(path, predictor, options, out)
    if slide.tiling is None:  # not for a slide, and mypy can't know
        raise SlideError(path, "it has no tiles", "give the slide")
    key = _key(slide, predictor, targets, options, seed)
    if (known := map_record.whole(out, key)) is not None:
        log.info("%s: the same maps are there already", slide.name)
        return known
    size = int(slide.tiling.table["size"][0])
    coords = slide.features.coords
    windows = sliding(cells_of(coords, size, path), options.shape, path)
    log.info("%s: %d tiles, %d windows", slide.name, len(coords), len(windows))
    whole = encoded.bag(slide.features.features, predictor, slide.name)
    laws, shift = _ask(slide, predictor, whole, windows, targets, options.draws, seed)
    found = maps.combine(laws, windows, len(coords))
    tiles = pl.DataFrame({"x": coords[:, 0], "y": coords[:, 1]}).with_columns(
        size=pl.lit(size, pl.Int64)
    )
    table = maps.table(tiles, found, targets)
    about, folds = predictor.about, len(predictor.members)
    facts = slide.facts | known_slides.told(predictor.known, slide.name, *whole)
    rows = map_told.rows(predictor, targets, found)
    map_record.clear(out)
    stamp = {"slide": slide.name}
    io.write_stamped(table, out / map_record.TABLE, stamp, about["caveat"])
    origin = geojson.qupath_origin(path)
    geojson.write(table, targets.titles, out / map_record.TILES, slide.name, origin)
    notes = [map_told.caption(row, facts, shift, folds) for row in rows]
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
    io.write_json(told, out / map_record.RECORD)
    return told


def check_slide(path: Path) -> None:
    """See that there is a file to map.

    Raises
    ------
    SlideError
        There is none, or it can't be a slide.
    """
    if encoded.is_features(path):
        cause = "these are features; a map needs the picture and the size of the tiles"
        raise SlideError(path, cause, "give the slide")
    encoded.check(path)


def _encode(path: Path, predictor: Predictor, options: Options, out: Path) -> Encoded:
    """Tiles and features; unlike for a prediction, all tiles, so that the map has no holes."""
    tiles = predictor.about["tiles"]
    if tiles is not None:
        most = options.max_tiles or EVERY_TILE
        about = predictor.about | {"tiles": tiles | {"max_tiles": most}}
        predictor = replace(predictor, about=about)
    return encoded.encode(
        path,
        predictor,
        lambda: predictor.encoder(options.threads),
        options.threads,
        options.mpp,
        keep=out / map_record.FEATURES,
    )


def _key(
    slide: Encoded, predictor: Predictor, targets: Targets, options: Options, seed: int
) -> str:
    chosen = (options.shape, options.draws, seed, targets.keys, predictor.key, slide.facts["key"])
    return fingerprint(FORMAT, STEP_VERSIONS["sample"], *map(str, chosen))


def _ask(
    slide: Encoded,
    predictor: Predictor,
    whole: tuple[encoded.Array, encoded.Array],
    windows: list[Indices],
    targets: Targets,
    draws: int,
    seed: int,
) -> tuple[list[Laws], dict[str, Any]]:
    """Each fold model's laws, and whether the whole slide is like the training slides."""
    settings = {name: predictor.about[name] for name in ("bags", "sample")}
    laws, verdicts = [], []
    for member in predictor.members:
        found = maps.window_laws(
            member, slide.features.features, windows, targets, settings, seed, slide.name, draws
        )
        laws.append(found)
        if member.familiar is not None:
            verdicts.append({"fold": member.number} | member.familiar.judge(*whole))
        del member  # or two would be in memory while the next is read
    return laws, judged.together(verdicts, predictor.about["alpha"])


def _draw(
    path: Path,
    table: pl.DataFrame,
    rows: list[dict[str, Any]],
    notes: list[str],
    tiling: Tiling,
    options: Options,
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
                map_told.UNITS[row["kind"]],
                map_told.FLAT_SHARE * (row["train_sd"] or 0),
                "sd" if options.draws > 1 else "sd between windows and models",
            )
            made.append(out / row["picture"])
            with io.atomic(made[-1]) as partial:
                figure.savefig(partial, dpi=150, metadata={"Software": None})
            plt.close(figure)
    except BaseException:
        for one in made:
            one.unlink(missing_ok=True)
        raise
