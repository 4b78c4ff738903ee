"""A slide as a trained model sees it: tiles, their features, and the bag of their clusters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import STEP_VERSIONS
from slide2rna.core.errors import SlideError
from slide2rna.core.seeds import seed_for
from slide2rna.core.types import Array
from slide2rna.features import clusters, encoder_weights
from slide2rna.features.encode import extract
from slide2rna.features.feature_file import Features, attributes_of, read, write
from slide2rna.features.registry import Encoder
from slide2rna.package.predictor import Predictor
from slide2rna.slides import tiles
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tiles import Tiling

FEATURE_SUFFIXES = (".h5", ".hdf5")
ENDS_BYTES = 2**20
KEPT = "features"  # stem of the features that a prediction keeps


@dataclass(frozen=True)
class EncodedSlide:
    """A slide as tiles' features.

    Attributes
    ----------
    name : see `name_of`; random streams are named by it, as those of a cohort's slides are.
    features : of the tiles that are good at full resolution.
    tiling : None for features from a file.
    facts : source (slide or features), n_tiles, n_rejected, key (fingerprint of the features);
        of a slide also mpp, mpp_source, mpp_note, width_px, height_px, vendor, power,
        n_candidates, n_tissue, weights_note; of a file tile_mpp (null where it doesn't say) and
        encoder_note.
    """

    name: str
    features: Features
    tiling: Tiling | None
    facts: dict[str, Any]


def is_features(path: str | Path) -> bool:
    """Whether a file holds features of tiles rather than a slide, by its name."""
    return Path(path).suffix.lower() in FEATURE_SUFFIXES


def name_of(path: str | Path) -> str:
    """A slide's name: the file's stem, or what features that an earlier prediction kept say."""
    path = Path(path)
    if is_features(path) and path.stem == KEPT:
        return str(attributes_of(path).get("slide") or path.stem)
    return path.stem


def check(path: Path) -> None:
    """See that a file is there.

    Raises
    ------
    SlideError
        There is none, or it is a folder.
    """
    if path.is_dir():
        remedy = f"give its files: {path}/*.svs, or what they are called"
        raise SlideError(path, "is a folder", remedy)
    if not path.is_file():
        raise SlideError(path, "no such file", "check the path")


def encode_slide(
    path: str | Path,
    predictor: Predictor,
    encoder: Encoder | Callable[[], Encoder] | None = None,
    threads: int = 1,
    mpp: float | None = None,
    area: str | None = None,
    keep: str | Path | None = None,
    weights: str | Path | None = None,
) -> EncodedSlide:
    """Tiles and features of a slide as the training's were made, or features from an .h5 file.

    Parameters
    ----------
    path : a slide or a plain image; or features of tiles as TRIDENT, CLAM or STAMP write them.
    encoder : from `Predictor.encoder`, or a function that gives it when it is needed.
    mpp : um/px of level 0, where the file doesn't say or says wrong.
    area : JSON list of [x, y], a polygon in level-0 px; tiles count whose centre lies in it.
    keep : h5 file for the features; one that is there and was made of the same is read instead.
    weights : the encoder's local file, as `Predictor.encoder` was given it.

    Raises
    ------
    SlideError
        The file can't be read, or has too little tissue.
    ConfigError
        The model can't read slides; see `Predictor.check_slides`.
    """
    path = Path(path)
    check(path)
    if is_features(path):
        return _from_file(path, predictor)
    predictor.check_slides()
    settings, name = predictor.about["tiles"], name_of(path)
    with open_slide(path, mpp) as slide:
        tiling = tiles.tile_slide(slide, settings, predictor.about["seed"], name, area)
        facts = {
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
            "key": _key(path, slide.mpp, tiling.table, predictor, weights),
            "weights_note": predictor.weights_note(weights),
        }
        kept = attributes_of(Path(keep)) if keep is not None else {}
        if keep is not None and kept.get("key") == facts["key"]:
            found = read(Path(keep))
        else:
            if callable(encoder):
                encoder = encoder()
            if encoder is None:
                raise ValueError("a slide needs an encoder")
            found = extract(slide, tiling.table, encoder, settings, threads, label=f"{name}: tiles")
    facts |= {"n_tiles": len(found.coords), "n_rejected": tiling.table.height - len(found.coords)}
    if keep is not None and kept.get("key") != facts["key"]:
        own = {name: facts[name] for name in ("n_tiles", "n_rejected", "key")}
        own |= {
            "slide": name,
            "encoder": predictor.about["encoder"],
            "version": STEP_VERSIONS["features"],
        }
        own |= {name: settings[name] for name in ("mpp", "tile_px")}
        write(Path(keep), found, own)
    _check_length(path, found, predictor)
    return EncodedSlide(name, found, tiling, facts)


def _from_file(path: Path, predictor: Predictor) -> EncodedSlide:
    found, ours = read(path), predictor.made_by
    if found.encoder is not None and ours is not None and found.encoder != ours:
        cause = f"its features are of {found.encoder}, the model is for {ours}"
        raise SlideError(path, cause, f"encode the slide with {ours}")
    _check_length(path, found, predictor)
    digest = hashlib.sha256(found.features.tobytes()).hexdigest()[:16]
    facts = {"source": "features", "n_tiles": len(found.coords), "n_rejected": 0, "key": digest}
    facts |= {"tile_mpp": found.mpp, "encoder_note": predictor.encoder_note(found.encoder)}
    return EncodedSlide(name_of(path), found, None, facts)


def _check_length(path: Path, found: Features, predictor: Predictor) -> None:
    length = found.features.shape[1]
    if length != predictor.features:
        cause = f"{length} numbers per tile, the model takes {predictor.features}"
        remedy = f"use the encoder of its training ({predictor.made_by or 'not recorded'})"
        raise SlideError(path, cause, remedy)


def _key(
    path: Path,
    mpp: float,
    table: pl.DataFrame,
    predictor: Predictor,
    weights: str | Path | None,
) -> str:
    """Fingerprint of everything that a slide's features depend on.

    Of the file its size and both ends: whole slides are too large to be read twice.
    """
    size = path.stat().st_size
    with open(path, "rb") as handle:
        ends = [handle.read(ENDS_BYTES)]
        handle.seek(max(0, size - ENDS_BYTES))
        ends.append(handle.read(ENDS_BYTES))
    about = predictor.about
    return tiles.fingerprint(
        STEP_VERSIONS["features"],
        about.get("encoder_identity") or about["encoder"],
        size,
        *(hashlib.sha256(end).hexdigest() for end in ends),
        mpp,
        about["tiles"]["tile_px"],
        about["tiles"]["min_contrast"],
        tiles.fingerprint(table.write_csv()),
        *([] if weights is None else [encoder_weights.digest(Path(weights))]),
    )


def bag(tile_features: Array, predictor: Predictor, name: str) -> tuple[Array, Array]:
    """Cluster means (K, d) and sizes (K,) of a slide's tiles (n, d), padded with size 0."""
    settings = predictor.about["bags"]
    seed = seed_for(predictor.about["seed"], "bags", name)
    return clusters.bag(tile_features, predictor.clusters, settings["iterations"], seed)
