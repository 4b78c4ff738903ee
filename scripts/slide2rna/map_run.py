"""Maps of one slide as files: a table, a picture per name, GeoJSON, and what was done."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna import STEP_VERSIONS, __version__, encoded, geojson, io, judged, map_figure, maps
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

FORMAT = 1
EVERY_TILE = 1 << 30
# Of the sd between training samples. A map that spans less is called flat, and its colours stand
# for so much at least: stretched to its own range, any map looks as if it had structure.
FLAT_SHARE = 0.25
UNITS = {"gene": "log2(x + 1)", "pathway": "score"}
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
    """
    if encoded.is_features(path):
        cause = "these are features; a map needs the picture and the size of the tiles"
        raise SlideError(path, cause, "give the slide")
    seed = predictor.about["seed"] if options.seed is None else options.seed
    slide = _encode(path, predictor, options, out)
    if slide.tiling is None:  # not for a slide, and mypy can't know
        raise SlideError(path, "it has no tiles", "give the slide")
    key = _key(slide, predictor, targets, options, seed)
    done = out / "maps.json"
    if done.is_file() and (known := io.read_json(done)).get("key") == key:
        log.info("%s: the same maps are there already", slide.name)
        return known  # type: ignore[no-any-return]
    size = int(slide.tiling.table["size"][0])
    coords = slide.features.coords
    windows = sliding(cells_of(coords, size, path), options.shape, path)
    log.info("%s: %d tiles, %d windows", slide.name, len(coords), len(windows))
    laws, shift = _ask(slide, predictor, windows, targets, options.draws, seed)
    found = maps.combine(laws, windows, len(coords))
    tiles = pl.DataFrame({"x": coords[:, 0], "y": coords[:, 1]}).with_columns(
        size=pl.lit(size, pl.Int64)
    )
    table = maps.table(tiles, found, targets)
    about = predictor.about
    io.write_stamped(table, out / "maps.parquet", {"slide": slide.name}, about["caveat"])
    origin = geojson.qupath_origin(path)
    geojson.write(table, targets.titles, out / "maps.geojson", slide.name, origin)
    rows = _rows(predictor, targets, found)
    warning = f"\n{judged.UNLIKE}: {judged.THEN}." if shift["shifted"] else ""
    _draw(path, table, rows, slide.tiling, options, warning, out)
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
        "folds": len(predictor.members),
        "draws_per_fold": options.draws,
        "seed": seed,
        "tile_px": size,
        "qupath_origin_px": list(origin),
        "facts": slide.facts,
        "shift": shift,
        "maps": rows,
        "definitions": DEFINITIONS,
    }
    io.write_json(told, done)
    return told


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
        keep=out / "features.h5",
    )


def _key(
    slide: Encoded, predictor: Predictor, targets: Targets, options: Options, seed: int
) -> str:
    chosen = (options.shape, options.draws, seed, targets.names, predictor.key, slide.facts["key"])
    return fingerprint(FORMAT, STEP_VERSIONS["sample"], *map(str, chosen))


def _ask(
    slide: Encoded,
    predictor: Predictor,
    windows: list[Indices],
    targets: Targets,
    draws: int,
    seed: int,
) -> tuple[list[Laws], dict[str, Any]]:
    """Each fold model's laws, and whether the whole slide is like the training slides."""
    whole = encoded.bag(slide.features.features, predictor, slide.name)
    settings = {name: predictor.about[name] for name in ("bags", "sample")}
    laws, verdicts = [], []
    for member in predictor.members:
        found = maps.window_laws(
            member, slide.features.features, windows, targets, settings, seed, slide.name, draws
        )
        laws.append(found)
        if member.familiar is not None:
            verdict = member.familiar.judge(*whole)
            verdicts.append((member.number, member.familiar, verdict))
        del member  # or two would be in memory while the next is read
    return laws, judged.together(verdicts, predictor.about["alpha"])


def _rows(
    predictor: Predictor, targets: Targets, found: dict[str, NDArray[np.float64]]
) -> list[dict[str, Any]]:
    """What is known of each mapped gene and gene set, and the name of its picture.

    `low` and `high` are the 1st and 99th percentile over tiles, `train_sd` the sd between the
    training samples.
    """
    taken: set[str] = set()
    rows = []
    for place, (kind, name) in enumerate(zip(targets.kinds, targets.names, strict=True)):
        if kind == "gene":
            table = predictor.gene_table.filter(pl.col("gene") == name)
            table = table.with_columns(train_sd="sd")
        else:
            table = predictor.pathway_table.filter(pl.col("pathway") == name)
        known = table.row(0, named=True)
        file = re.sub(r"[^A-Za-z0-9.-]+", "_", name)
        while file.casefold() in taken:
            file += "_"
        taken.add(file.casefold())
        own = found["mean"][found["n_windows"] > 0, place]
        low, high = (float(end) for end in np.quantile(own, [0.01, 0.99]))
        rows.append(
            {"kind": kind, "name": name, "title": targets.titles[name], "picture": f"{file}.png"}
            | {field: known[field] for field in ("r", "r_low", "r_high", "reliability")}
            | {"low": low, "high": high, "train_sd": known["train_sd"]}
        )
    return rows


def reliability(row: dict[str, Any]) -> str:
    """What to think of a map: how well its name tells patients apart, and if it is flat."""
    if row["r"] is None:
        told = "How well it tells patients apart isn't known"
    else:
        told = f"Between test patients r = {row['r']:.2f}"
        if row["r_low"] is not None:
            told += f" [{row['r_low']:.2f}, {row['r_high']:.2f}]"
        told += f", reliability: {row['reliability']}"
    told += "; not tested within slides. "
    span = row["high"] - row["low"]
    if not row["train_sd"]:
        return f"{told}Tiles span {span:.2g}."
    share = span / row["train_sd"]
    flat = " Nearly flat." if share < FLAT_SHARE else ""
    return f"{told}Tiles span {span:.2g}, {share:.2g} of the sd between training samples.{flat}"


def _draw(
    path: Path,
    table: pl.DataFrame,
    rows: list[dict[str, Any]],
    tiling: Tiling,
    options: Options,
    warning: str,
    out: Path,
) -> None:
    with open_slide(path, options.mpp) as slide:
        picture = map_figure.picture(slide, tiling)
    for row in progress(rows, "pictures"):
        figure = map_figure.draw(
            picture,
            table.filter(pl.col("name") == row["name"]),
            row["title"],
            reliability(row) + warning,
            UNITS[row["kind"]],
            FLAT_SHARE * (row["train_sd"] or 0),
            "sd" if options.draws > 1 else "sd between windows and models",
        )
        with io.atomic(out / row["picture"]) as partial:
            figure.savefig(partial, dpi=150, metadata={"Software": None})
        plt.close(figure)
