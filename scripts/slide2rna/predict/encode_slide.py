"""Encoding of a new slide for a trained model: tiles, their features, and the bag of clusters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import polars as pl

from slide2rna import STEP_VERSIONS
from slide2rna.core.encoder_names import WeightsFiles
from slide2rna.core.errors import SlideError
from slide2rna.core.files import is_plain_name
from slide2rna.core.seeds import seed_for
from slide2rna.core.types import Array, Mpp, Px
from slide2rna.features import clusters, encoder_weights
from slide2rna.features.encode import extract
from slide2rna.features.feature_file import Features, read, read_attributes, write
from slide2rna.features.registry import Encoder
from slide2rna.features.stated_facts import encoder_name
from slide2rna.package.predictor import Predictor
from slide2rna.slides import tiles
from slide2rna.slides.identity import slide_file
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tiles import Tiling
from slide2rna.storage.stamps import slide_stamp

FEATURE_SUFFIXES = (".h5", ".hdf5")
# CLAM writes pt_files/<slide>.pt, and the same with coordinates as h5_files/<slide>.h5.
PICKLED = (".pt", ".pth", ".pkl", ".pickle")
FEATURES_STEM = "features"  # name of the feature file in a prediction's folder


class EncodingFacts(TypedDict, total=False):
    """Facts of an encoded slide.

    Attributes
    ----------
    source : slide or features.
    n_tiles, n_rejected : tiles used; tiles blank or without contrast at full resolution.
    key : fingerprint of the features.
    mpp, mpp_source, mpp_note, width_px, height_px, vendor, power : of a slide's file.
    n_candidates, n_tissue : of a slide's tiling.
    weights_note : reason why the encoder's weights can't be compared with the training's, or None.
    tile_mpp : of a feature file; None if it isn't stated.
    encoder_note : why a feature file's encoder can't be compared with the training's, or None.
    """

    source: str
    n_tiles: int
    n_rejected: int
    key: str
    mpp: Mpp
    mpp_source: str
    mpp_note: str | None
    width_px: Px
    height_px: Px
    vendor: str | None
    power: float | None
    n_candidates: int
    n_tissue: int
    weights_note: str | None
    tile_mpp: Mpp | None
    encoder_note: str | None


@dataclass(frozen=True)
class EncodedSlide:
    """Features of a slide's tiles.

    Attributes
    ----------
    name : see `slide_name`; it names the random streams, as in a cohort.
    features : of the tiles that pass the checks at full resolution.
    tiling : None for features from a file.
    facts : see `EncodingFacts`.
    """

    name: str
    features: Features
    tiling: Tiling | None
    facts: EncodingFacts


def is_features(path: str | Path) -> bool:
    """Return whether a file holds features rather than a slide, by its suffix."""
    return Path(path).suffix.lower() in FEATURE_SUFFIXES


def slide_name(path: str | Path) -> str:
    """Return a slide's name: the file's stem, or the name stored in a prediction's features.

    Raises
    ------
    SlideError
        The name is no plain name of a file.
    """
    path = Path(path)
    name = path.stem
    if is_features(path) and path.stem == FEATURES_STEM:
        name = str(read_attributes(path).get("slide") or path.stem)
    if not is_plain_name(name):
        cause = f"the slide's name {name!a} could lead out of the folder of results"
        raise SlideError(path, cause, "give the file a plain name, or fix its attribute slide")
    return name


def check_file(path: Path) -> None:
    """Check that a file exists.

    Raises
    ------
    SlideError
        It is missing, a folder that isn't one DICOM slide, or features that need unpickling.
    """
    if path.suffix.lower() in PICKLED and path.is_file():
        cause = "these features need unpickling, which can run a program"
        raise SlideError(path, cause, f"give the .h5 file next to it ({path.stem}.h5)")
    if not slide_file(path).is_file():
        raise SlideError(path, "no such file", "check the path")


def encode_slide(
    path: str | Path,
    predictor: Predictor,
    encoder: Encoder | Callable[[], Encoder] | None = None,
    threads: int = 1,
    mpp: Mpp | None = None,
    area: str | None = None,
    keep: str | Path | None = None,
    weights: WeightsFiles = None,
) -> EncodedSlide:
    """Tile and encode a slide as in training, or read its features from an .h5 file.

    Parameters
    ----------
    path : a slide or a plain image; or features of tiles as TRIDENT, CLAM or STAMP write them.
    encoder : from `Predictor.encoder`, or a function that loads it on demand.
    mpp : um/px of level 0, if the file's value is missing or wrong.
    area : JSON list of [x, y], a polygon in level-0 px; only tiles with their centre inside count.
    keep : h5 file that caches the features; it is read instead if it has the same key.
    weights : the encoder's local file, or a file by encoder, as for `Predictor.encoder`.

    Raises
    ------
    SlideError
        The file can't be read, or has too little tissue.
    ConfigError
        The model can't read slides; see `Predictor.check_slides`.
    """
    path = Path(path)
    check_file(path)
    if is_features(path):
        return _read_features(path, predictor)
    predictor.check_slides()
    settings, name = predictor.about["tiles"], slide_name(path)
    file = slide_file(path)
    with open_slide(file, mpp) as slide:
        tiling = tiles.tile_slide(slide, settings, predictor.about["seed"], name, area)
        facts: EncodingFacts = {
            "source": "slide",
            "mpp": slide.mpp,
            "mpp_source": slide.resolution.source.replace("sheet", "given"),
            "mpp_note": slide.resolution.note,
            "width_px": slide.size[0],
            "height_px": slide.size[1],
            "vendor": slide.vendor,
            "power": slide.power,
            "n_candidates": tiling.n_candidates,
            "n_tissue": tiling.n_tissue,
            "key": _key(file, slide.mpp, tiling.table, predictor, weights),
            "weights_note": predictor.weights_note(),
        }
        cached = read_attributes(Path(keep)) if keep is not None else {}
        if keep is not None and cached.get("key") == facts["key"]:
            features = read(Path(keep))
        else:
            if callable(encoder):
                encoder = encoder()
            if encoder is None:
                raise ValueError("a slide needs an encoder")
            label = f"{name}: tiles"
            features = extract(slide, tiling.table, encoder, settings, threads, label=label)
    count = len(features.coords)
    facts |= {"n_tiles": count, "n_rejected": tiling.table.height - count}
    if keep is not None and cached.get("key") != facts["key"]:
        attributes = {
            "n_tiles": facts["n_tiles"],
            "n_rejected": facts["n_rejected"],
            "key": facts["key"],
            "slide": name,
            "encoder": predictor.about["encoder"],
            "version": STEP_VERSIONS["features"],
            "mpp": settings["mpp"],
            "tile_px": settings["tile_px"],
        }
        write(Path(keep), features, attributes)
    _check_width(path, features, predictor)
    return EncodedSlide(name, features, tiling, facts)


def _read_features(path: Path, predictor: Predictor) -> EncodedSlide:
    features = read(path, predictor.level)
    expected = encoder_name(predictor.made_by) if predictor.level == "tile" else predictor.made_by
    if features.encoder is not None and expected is not None and features.encoder != expected:
        cause = f"its features are from encoder {features.encoder}, the model needs {expected}"
        raise SlideError(path, cause, f"encode the slide with {expected}")
    _check_width(path, features, predictor)
    facts: EncodingFacts = {
        "source": "features",
        "n_tiles": len(features.coords),
        "n_rejected": 0,
        "key": hashlib.sha256(features.features.tobytes()).hexdigest()[:16],
        "tile_mpp": features.mpp,
        "encoder_note": predictor.encoder_note(features.encoder),
    }
    return EncodedSlide(slide_name(path), features, None, facts)


def _check_width(path: Path, features: Features, predictor: Predictor) -> None:
    length = features.features.shape[1]
    if length != predictor.feature_dim:
        cause = f"{length} numbers per tile, the model takes {predictor.feature_dim}"
        remedy = f"use the encoder of its training ({predictor.made_by or 'not recorded'})"
        raise SlideError(path, cause, remedy)


def _key(
    path: Path,
    mpp: Mpp,
    table: pl.DataFrame,
    predictor: Predictor,
    weights: WeightsFiles,
) -> str:
    """Return a fingerprint of everything that a slide's features depend on.

    The file enters by its time and stamp: whole slides are too large to be read twice.
    """
    about = predictor.about
    files = weights.values() if isinstance(weights, dict) else [weights] if weights else []
    return tiles.fingerprint(
        STEP_VERSIONS["features"],
        about.get("encoder_identity") or about["encoder"],
        path.stat().st_mtime_ns,
        slide_stamp(path),
        mpp,
        about["tiles"]["tile_px"],
        about["tiles"]["min_contrast"],
        tiles.fingerprint(table.write_csv()),
        *(encoder_weights.digest(Path(path)) for path in files),
    )


def bag(tile_features: Array, predictor: Predictor, name: str) -> tuple[Array, Array]:
    """Return cluster means (K, d) and sizes (K,) of a slide's tiles (n, d), padded with size 0."""
    settings = predictor.about["bags"]
    if predictor.level == "slide":
        return tile_features, np.ones(1, np.float32)
    seed = seed_for(predictor.about["seed"], "bags", name)
    return clusters.bag(tile_features, predictor.n_clusters, settings["iterations"], seed)
