"""Stain study: shifts of the predictions under other staining, scanning or compression.

Tiles of some test slides are read again, changed one way at a time, and passed through encoder,
bag and model as in the pipeline. Such a shift isn't biology: a gene that moves by its sd can't be
compared between laboratories.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image

from slide2rna.core import seeds
from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.parallel import ordered_map
from slide2rna.core.rows import CheckedSlideRow
from slide2rna.core.settings import BagsSettings, SampleSettings, StainSettings, TilesSettings
from slide2rna.core.types import Array, Row
from slide2rna.evaluation.scoring import folds
from slide2rna.features import clusters
from slide2rna.features.encode import DecodedTile, color_of, read_tile
from slide2rna.features.registry import Encoder
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.models.regressor import Regressor
from slide2rna.sampling import draw, draw_store
from slide2rna.slides.identity import check_unchanged, checked_slides
from slide2rna.slides.reader import open_slide
from slide2rna.storage import parquet
from slide2rna.studies.shift import reference
from slide2rna.studies.stain.perturbations import STRENGTHS, perturb

Tiles = NDArray[np.uint8]
Change = tuple[str, float | None]

OVER = 0.5  # a shift counts above this, in units of the gene's sd in training
# Unchanged tiles, and half of them: the null, a shift by the choice of tiles alone.
UNCHANGED, HALF_TILES = "none", "half the tiles"
CHANGES: list[Change] = [
    (HALF_TILES, None),
    *((kind, strength) for kind, values in STRENGTHS.items() for strength in values),
]


@dataclass(frozen=True)
class StainInputs:
    """Files of a cohort and of a run; models, draws, judged and familiar have a path per fold.

    Attributes
    ----------
    models : folders.
    judged, familiar : tables and training references of the stage shift.
    slides_folder : folder that slide paths are relative to.
    slides, tiles : manifests of the shards; tile tables lie in the folder of the latter.
    """

    models: list[Path]
    draws: list[Path]
    judged: list[Path]
    familiar: list[Path]
    slides: list[Path]
    tiles: list[Path]
    cohort: Path
    slides_folder: Path = Path()


@dataclass(frozen=True)
class EncodingSetup:
    """Encoder and settings that turn a slide's tiles into a bag and a prediction.

    Attributes
    ----------
    tiles, bags, sample, stain : sections of the config.
    seed : the run's.
    """

    encoder: Encoder
    tiles: TilesSettings
    bags: BagsSettings
    sample: SampleSettings
    stain: StainSettings
    seed: int
    threads: int
    device: torch.device


@dataclass(frozen=True)
class StainFold:
    """A fold's model, its training reference, and its stored predictions.

    Attributes
    ----------
    sd : (G,) of the train samples.
    stored : points (G,) in log2(x+1) of the test slides, by name.
    """

    number: int
    model: RNAFM | Regressor
    training: reference.TrainingReference
    stored: dict[str, Array]

    @property
    def sd(self) -> Array:
        return self.model.gene_sd.cpu().numpy().astype(np.float64)

    @property
    def spread(self) -> float | None:
        """Mean over genes of the sd between predictions of test slides, in units of train sd.

        None for a single test slide.
        """
        if len(self.stored) < 2:
            return None
        active = self.sd > 0
        points = np.array(list(self.stored.values()))[:, active]
        return float((points.std(axis=0, ddof=1) / self.sd[active]).mean())


def stain_rows(
    inputs: StainInputs, setup: EncodingSetup
) -> Iterator[tuple[StainFold, list[Row], Array]]:
    """Perturb the chosen slides of every fold.

    Yields
    ------
    fold
    rows : a row per change, the unchanged tiles first.
    shifts : (changes, G) prediction minus that of the unchanged tiles, in units of the train sd;
        NaN for genes that don't vary.

    Raises
    ------
    StageError
        The files don't belong together.
    """
    shards = [checked_slides(path, inputs.slides_folder) for path in inputs.slides]
    slides = {row["slide_id"]: row for shard in shards for row in shard}
    for paths in zip(inputs.models, inputs.draws, inputs.judged, inputs.familiar, strict=True):
        fold, chosen = _load_fold(*paths, setup)
        for slide_id, unit in progress(chosen, f"fold {fold.number}: stain"):
            rows, shifts = perturb_slide(fold, slides[slide_id], inputs.tiles[0].parent, setup)
            keys = {"fold": fold.number, "slide_id": slide_id, "unit": unit}
            yield fold, [keys | row for row in rows], shifts


def _load_fold(
    model: Path, draws: Path, shift: Path, training: Path, setup: EncodingSetup
) -> tuple[StainFold, list[tuple[str, str]]]:
    """Return a fold, and name and unit of its chosen test slides, one per unit."""
    network, meta = checkpoint.load_model(model, setup.device)
    store, rows = folds.open_store(draws, meta["genes"])
    number = folds.fold_of(draws)
    if meta["features"] != setup.encoder.dim:
        cause = f"the model has {meta['features']} features, the encoder {setup.encoder.dim}"
        raise StageError(model, cause, "use the settings that the model was trained with")
    tested = parquet.read(shift).filter(pl.col("part") == "test").sort("slide_id")
    with draw_store.reading(draws):
        points: dict[str, Array] = {
            str(slide): np.asarray(store["point"][rows[slide]], dtype=float)  # type: ignore[index]
            for slide in tested["slide_id"]
        }
    rng = seeds.rng_for(setup.seed, "stain", number)
    order = tested[rng.permutation(tested.height).tolist()].unique(
        "unit", keep="first", maintain_order=True
    )
    chosen = sorted(order.head(setup.stain["slides"]).select("slide_id", "unit").iter_rows())
    return StainFold(number, network, reference.load(training), points), chosen


def perturb_slide(
    fold: StainFold, slide: CheckedSlideRow, tiles: Path, setup: EncodingSetup
) -> tuple[list[Row], Array]:
    """Return rows and shifts of one slide, as `stain_rows` yields them."""
    name = slide["slide_id"]
    pixels, has_all_tiles = read_tiles(slide, tiles, setup)
    base_bag = _bag(encode(pixels, (UNCHANGED, None), setup), name, setup)
    base = predict(fold, *base_bag, name, setup)
    active = fold.sd > 0
    stored_off = None
    if has_all_tiles:
        gap = np.abs(base - fold.stored[name])[active] / fold.sd[active]
        stored_off = float(gap.max())
    common = {"n_tiles": len(pixels), "spread": fold.spread, "stored_off": stored_off}
    rows = [common | _change_row(fold, (UNCHANGED, None), base_bag, np.zeros(active.sum()))]
    shifts = np.full((len(CHANGES), len(base)), np.nan)
    half = np.sort(
        seeds.rng_for(setup.seed, "stain-half", name).permutation(len(pixels))[
            : -(-len(pixels) // 2)
        ]
    )
    for index, change in enumerate(CHANGES):
        chosen = pixels[half] if change[0] == HALF_TILES else pixels
        bag = _bag(encode(chosen, change, setup), name, setup)
        moved = (predict(fold, *bag, name, setup) - base)[active] / fold.sd[active]
        shifts[index, active] = moved
        rows.append(common | _change_row(fold, change, bag, moved))
    return rows, shifts


def _change_row(fold: StainFold, change: Change, bag: tuple[Array, Array], moved: Array) -> Row:
    size = np.abs(moved)
    shift = fold.training.judge(*bag)
    return {
        "kind": change[0],
        "strength": change[1],
        "moved": float(size.mean()),
        "share_over": float((size > OVER).mean()),
        "bag_distance": shift["bag_distance"],
        "bag_p": shift["bag_p"],
        "bag_p_train": shift["bag_p_train"],
        "n_cal": len(fold.training.cal_bag),
    }


def read_tiles(slide: CheckedSlideRow, folder: Path, setup: EncodingSetup) -> tuple[Tiles, bool]:
    """Read the pixels (n, h, w, 3) of a slide's tiles, in order; also return whether all were read.

    Tiles that feature extraction rejects are left out here too.

    Raises
    ------
    StageError, SlideError
        The slide was deleted or changed, its tiles are missing, or all of them are rejected.
    """
    name, table = slide["slide_id"], folder / f"{slide['slide_id']}.parquet"
    if slide["path"] is None or not table.is_file():
        cause = "the slide or its tiles are missing"
        raise StageError(f"slide {name}", cause, "set keep_slides: true, and rerun the stage tiles")
    columns = ["x", "y", "level", "size"]
    places = parquet.read(table, columns, remedy="rerun the stage tiles").rows()
    max_tiles = setup.stain["tiles"]
    has_all_tiles = len(places) <= max_tiles
    if not has_all_tiles:
        rng = seeds.rng_for(setup.seed, "stain-tiles", name)
        places = [places[i] for i in np.sort(rng.choice(len(places), max_tiles, replace=False))]
    px, contrast = setup.tiles["tile_px"], setup.tiles["min_contrast"]
    check_unchanged(slide)
    with open_slide(slide["path"], slide["mpp"]) as opened:

        def read(place: tuple[int, int, int, int]) -> DecodedTile:
            x, y, level, size = place
            return read_tile(opened, x, y, level, size, px, contrast)

        decoded = ordered_map(read, places, setup.threads)
        pixels = [tile.pixels for tile in decoded if tile.good]
    if not pixels:
        raise StageError(f"slide {name}", "no tile is usable", "raise stain.tiles")
    return np.stack(pixels), has_all_tiles


def encode(pixels: Tiles, change: Change, setup: EncodingSetup) -> Array:
    """Return the features (n, d) of changed tiles."""
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
    return np.concatenate([encoder.encode(*batch) for batch in prepared])


def _bag(features: Array, name: str, setup: EncodingSetup) -> tuple[Array, Array]:
    """Return means (k, d) and sizes (k,), clustered as in the stage bags."""
    seed = seeds.seed_for(setup.seed, "bags", name)
    return clusters.bag(features, setup.bags["k"], setup.bags["iterations"], seed)


@torch.inference_mode()
def predict(fold: StainFold, means: Array, sizes: Array, name: str, setup: EncodingSetup) -> Array:
    """Return the point (G,) in log2(x+1), from the same noise as the stored one."""
    bag = [torch.from_numpy(array)[None].to(setup.device) for array in (means, sizes)]
    model = fold.model
    if isinstance(model, RNAFM):
        pairs = setup.sample["mean_pairs"]
        white = draw.noise(setup.seed, fold.number, name, pairs, model.noise_width, "mean")
        point, _ = draw.point(model, model.encode_image(*bag), white.to(setup.device))
    else:
        point = model.restore(model(*bag))[0]
    return point.cpu().numpy().astype(np.float64)
