"""How far predictions move when tiles are stained, scanned or compressed otherwise.

Tiles of some test slides are read again, changed one way at a time, and taken through encoder,
bag and model as the pipeline does. What moves then isn't biology: a gene that moves by its sd
can't be compared between laboratories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image

from slide2rna.core import seeds
from slide2rna.core.config import Settings
from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.parallel import ordered_map
from slide2rna.core.types import Array
from slide2rna.evaluation.scoring import folds
from slide2rna.features import clusters
from slide2rna.features.encode import DecodedTile, color_of, read_tile
from slide2rna.features.registry import Encoder
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.models.regressor import Regressor
from slide2rna.sampling import draw
from slide2rna.slides.reader import open_slide
from slide2rna.studies.shift import reference
from slide2rna.studies.stain.perturbations import STRENGTHS, perturb

Tiles = NDArray[np.uint8]
Change = tuple[str, float | None]

OVER = 0.5  # a shift to be counted, in units of the gene's sd in training
# The tiles as they are, and half of them: how far a prediction moves by the choice of tiles.
NONE, HALF = "none", "half the tiles"
CHANGES: list[Change] = [
    (HALF, None),
    *((kind, strength) for kind, values in STRENGTHS.items() for strength in values),
]


@dataclass(frozen=True)
class StainInputs:
    """Files of a cohort and of a run; models, draws, judged and familiar are a path per fold.

    Attributes
    ----------
    models : folders. judged, familiar : what the stage shift left.
    slides, tiles : manifests of the shards; tile tables lie beside the latter.
    """

    models: list[Path]
    draws: list[Path]
    judged: list[Path]
    familiar: list[Path]
    slides: list[Path]
    tiles: list[Path]
    cohort: Path


@dataclass(frozen=True)
class EncodingSetup:
    """What turns a slide's tiles into a bag.

    Attributes
    ----------
    tiles, bags, sample, stain : sections of the config.
    seed : the run's.
    """

    encoder: Encoder
    tiles: Settings
    bags: Settings
    sample: Settings
    stain: Settings
    seed: int
    threads: int
    device: torch.device


@dataclass(frozen=True)
class StainFold:
    """A fold's model, and what its predictions are compared with.

    Attributes
    ----------
    sd : (G,) of the train samples.
    stored : points (G,) in log2(x+1) of the test slides, by name.
    """

    number: int
    model: RNAFM | Regressor
    law: reference.TrainingReference
    stored: dict[str, Array]

    @property
    def sd(self) -> Array:
        return self.model.gene_sd.cpu().numpy().astype(np.float64)

    @property
    def spread(self) -> float | None:
        """Mean over genes of the sd between predictions of test slides, in units of train sd.

        None where there is one test slide.
        """
        if len(self.stored) < 2:
            return None
        active = self.sd > 0
        points = np.array(list(self.stored.values()))[:, active]
        return float((points.std(axis=0, ddof=1) / self.sd[active]).mean())


def stain_rows(
    inputs: StainInputs, setup: EncodingSetup
) -> Iterator[tuple[StainFold, list[dict[str, Any]], Array]]:
    """Perturb the chosen slides of every fold.

    Yields
    ------
    fold
    rows : a row per change, the unchanged tiles first.
    shifts : (changes, G) prediction less that of the unchanged tiles, in units of the train sd;
        NaN for genes that don't vary.

    Raises
    ------
    StageError
        The files don't belong together.
    """
    slides = {row["slide_id"]: row for row in _rows(inputs.slides)}
    for paths in zip(inputs.models, inputs.draws, inputs.judged, inputs.familiar, strict=True):
        fold, chosen = _fold(*paths, setup)
        for slide_id, unit in progress(chosen, f"fold {fold.number}: stain"):
            rows, shifts = one_slide(fold, slides[slide_id], inputs.tiles[0].parent, setup)
            keys = {"fold": fold.number, "slide_id": slide_id, "unit": unit}
            yield fold, [keys | row for row in rows], shifts


def _rows(manifests: Sequence[Path]) -> list[dict[str, Any]]:
    return pl.concat([pl.read_parquet(path) for path in manifests]).to_dicts()


def _fold(
    model: Path, draws: Path, judged: Path, law: Path, setup: EncodingSetup
) -> tuple[StainFold, list[tuple[str, str]]]:
    network, meta = checkpoint.load_model(model, setup.device)
    store, rows = folds.open_store(draws, meta["genes"])
    number = folds.fold_of(draws)
    if meta["features"] != setup.encoder.dim:
        cause = f"a model of {meta['features']} features, the encoder has {setup.encoder.dim}"
        raise StageError(model, cause, "give the settings that the model was trained with")
    tested = pl.read_parquet(judged).filter(pl.col("part") == "test").sort("slide_id")
    points: dict[str, Array] = {
        str(slide): np.asarray(store["point"][rows[slide]], dtype=float)  # type: ignore[index]
        for slide in tested["slide_id"]
    }
    rng = seeds.rng_for(setup.seed, "stain", number)
    order = tested[rng.permutation(tested.height).tolist()].unique(
        "unit", keep="first", maintain_order=True
    )
    chosen = sorted(order.head(setup.stain["slides"]).select("slide_id", "unit").iter_rows())
    return StainFold(number, network, reference.load(law), points), chosen


def one_slide(
    fold: StainFold, slide: dict[str, Any], tiles: Path, setup: EncodingSetup
) -> tuple[list[dict[str, Any]], Array]:
    """Rows and shifts of one slide, as `run` yields them."""
    name = slide["slide_id"]
    pixels, whole = read_tiles(slide, tiles, setup)
    base_bag = _bag(encode(pixels, (NONE, None), setup), name, setup)
    base = predict(fold, *base_bag, name, setup)
    active = fold.sd > 0
    off = None
    if whole:
        gap = np.abs(base - fold.stored[name])[active] / fold.sd[active]
        off = float(gap.max())
    common = {"n_tiles": len(pixels), "spread": fold.spread, "stored_off": off}
    rows = [common | _row(fold, (NONE, None), base_bag, np.zeros(active.sum()))]
    shifts = np.full((len(CHANGES), len(base)), np.nan)
    half = np.sort(
        seeds.rng_for(setup.seed, "stain-half", name).permutation(len(pixels))[
            : -(-len(pixels) // 2)
        ]
    )
    for index, change in enumerate(CHANGES):
        chosen = pixels[half] if change[0] == HALF else pixels
        bag = _bag(encode(chosen, change, setup), name, setup)
        moved = (predict(fold, *bag, name, setup) - base)[active] / fold.sd[active]
        shifts[index, active] = moved
        rows.append(common | _row(fold, change, bag, moved))
    return rows, shifts


def _row(fold: StainFold, change: Change, bag: tuple[Array, Array], moved: Array) -> dict[str, Any]:
    size = np.abs(moved)
    judged = fold.law.judge(*bag)
    return {
        "kind": change[0],
        "strength": change[1],
        "moved": float(size.mean()),
        "share_over": float((size > OVER).mean()),
        "bag_distance": judged["bag_distance"],
        "bag_p": judged["bag_p"],
        "bag_p_train": judged["bag_p_train"],
        "n_cal": len(fold.law.cal_bag),
    }


def read_tiles(slide: dict[str, Any], folder: Path, setup: EncodingSetup) -> tuple[Tiles, bool]:
    """Pixels (n, h, w, 3) of a slide's tiles, in their order, and whether those are all it has.

    Tiles that feature extraction rejects are left out, as there.

    Raises
    ------
    StageError
        The slide was thrown away, or its tiles aren't there.
    """
    name, table = slide["slide_id"], folder / f"{slide['slide_id']}.parquet"
    if slide["path"] is None or not table.is_file():
        cause = "the slide or its tiles are gone"
        raise StageError(f"slide {name}", cause, "keep_slides: true, and run tiles again")
    places = pl.read_parquet(table).select("x", "y", "level", "size").rows()
    most = setup.stain["tiles"]
    whole = len(places) <= most
    if not whole:
        rng = seeds.rng_for(setup.seed, "stain-tiles", name)
        places = [places[i] for i in np.sort(rng.choice(len(places), most, replace=False))]
    px, contrast = setup.tiles["tile_px"], setup.tiles["min_contrast"]
    with open_slide(slide["path"], slide["mpp"]) as opened:

        def read(place: tuple[int, int, int, int]) -> DecodedTile:
            x, y, level, size = place
            return read_tile(opened, x, y, level, size, px, contrast)

        found = ordered_map(read, places, setup.threads)
        good = [tile.pixels for tile in found if tile.good]
    if not good:
        raise StageError(f"slide {name}", "no tile is any good", "raise stain.tiles")
    return np.stack(good), whole


def encode(pixels: Tiles, change: Change, setup: EncodingSetup) -> Array:
    """Features (n, d) of changed tiles."""
    encoder, (kind, strength) = setup.encoder, change

    def prepare(chunk: Tiles) -> tuple[Tiles, Array]:
        if strength is not None:
            chunk = np.stack([perturb(tile, kind, strength) for tile in chunk])
        return chunk, np.array([color_of(Image.fromarray(tile)) for tile in chunk])

    chunks = [pixels[i : i + encoder.batch] for i in range(0, len(pixels), encoder.batch)]
    if encoder.parallel:
        work = lambda chunk: encoder.encode(*prepare(chunk))  # noqa: E731
        return np.concatenate(list(ordered_map(work, chunks, setup.threads)))
    prepared = ordered_map(prepare, chunks, setup.threads)
    return np.concatenate([encoder.encode(*one) for one in prepared])


def _bag(found: Array, name: str, setup: EncodingSetup) -> tuple[Array, Array]:
    """Means (k, d) and sizes (k,) as the stage bags makes them."""
    seed = seeds.seed_for(setup.seed, "bags", name)
    return clusters.bag(found, setup.bags["k"], setup.bags["iterations"], seed)


@torch.inference_mode()
def predict(fold: StainFold, means: Array, sizes: Array, name: str, setup: EncodingSetup) -> Array:
    """Point (G,) in log2(x+1), from the same noise as the stored one."""
    bag = [torch.from_numpy(array)[None].to(setup.device) for array in (means, sizes)]
    model = fold.model
    if isinstance(model, RNAFM):
        pairs = setup.sample["mean_pairs"]
        white = draw.noise(setup.seed, fold.number, name, pairs, model.noise_width, "mean")
        point, _ = draw.point(model, model.encode_image(*bag), white.to(setup.device))
    else:
        point = model.restore(model(*bag))[0]
    return point.cpu().numpy().astype(np.float64)
