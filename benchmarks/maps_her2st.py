"""Maps of the her2st sections against measured spots and null models; real data, one patient.

    python benchmarks/maps_her2st.py [--results results/her2st] [--data ../shared/data/her2st]

`make real` makes the models. Each section is mapped by the fold that has it in test, so it is
held out from training and selection. Genes are chosen on the measured spots of the train sections.
Writes genes.parquet, summary.parquet and figures to <results>/maps, and prints a JSON line per row
of the summary.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import common
import maps_her2st_figures as drawing
import numpy as np
import polars as pl
from maps_her2st_scores import SEED, Maps, gene_rows, summarise
from slide2rna.cohort import her2st
from slide2rna.core import cli, config
from slide2rna.core.seeds import seed_for
from slide2rna.data import patients
from slide2rna.evaluation.metrics import spatial
from slide2rna.features import clusters, encode, feature_file, registry
from slide2rna.features.bag_file import Bags
from slide2rna.maps import mixture_predictions, window_predictions
from slide2rna.maps import targets as map_targets
from slide2rna.maps.windows import WindowShape, cover, grid_cells, sliding
from slide2rna.models import checkpoint, ridge
from slide2rna.models.nulls import color_ridge
from slide2rna.report.figures import style
from slide2rna.slides import tiles
from slide2rna.slides.reader import open_slide
from slide2rna.storage import parquet

RUN = "lite0-flow-go-bp"
# A training region has about 17 tiles, so a window of 4 x 4 is similar.
SHAPE = WindowShape.of(4, 1)
VARYING, STRUCTURED = 500, 100
NAMED = ["ERBB2", "GRB7", "FASN", "GNAS", "XBP1", "COL1A1", "CD74", "IGKC", "CD3D", "ACTB"]


class Member(NamedTuple):
    """A fold's model, as `window_predictions.window_moments` reads it."""

    number: int
    model: Any
    meta: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """Paths and settings of the cohort."""

    results: Path
    data: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        return config.for_cohort(config.load(common.ROOT / "tests/config/her2st.yaml"), "her2st")

    @cached_property
    def sections(self) -> dict[str, her2st.Section]:
        names = sorted(path.name.split(".")[0] for path in self.data.glob("*.spots.tsv"))
        return {name: her2st.read_section(self.data, name) for name in names}

    def parts(self, fold: int) -> dict[str, list[str]]:
        """Return the sections of each part of a fold."""
        table = pl.read_csv(self.results / "splits.tsv", separator="\t")
        own = table.filter(pl.col("fold") == fold)
        return {str(part): sorted(of["unit"]) for (part,), of in own.group_by("part")}

    def measured(self, name: str, genes: list[str]) -> np.ndarray:
        """Return log1p of counts per 10,000 (spots, genes); the depth is over all counted genes."""
        section = self.sections[name]
        column = {gene: place for place, gene in enumerate(section.genes)}
        return spatial.normalised(section.counts)[:, [column[gene] for gene in genes]]

    def grid(self, name: str) -> np.ndarray:
        return np.round(self.sections[name].array_xy).astype(np.int64)

    def choose(
        self, train: list[str], genes: list[str]
    ) -> tuple[list[str], dict[str, list[str]], str]:
        """Return the genes to map, their sets, and the first, from the train sections' spots."""
        spots = [self.measured(name, genes) for name in train]
        near = [spatial.neighbours(self.grid(name)) for name in train]
        sets = {
            f"varying {VARYING}": spatial.varying(spots, VARYING),
            f"structured {STRUCTURED}": spatial.structured(spots, near, STRUCTURED),
            "named": np.array([genes.index(gene) for gene in NAMED if gene in genes]),
        }
        kept = sorted(set(np.concatenate(list(sets.values()))))
        named = {name: [genes[row] for row in rows] for name, rows in sets.items()}
        first = genes[int(spatial.structured(spots, near, 1)[0])]
        return [genes[row] for row in kept], named, first

    def cohort(self, genes: list[str]) -> patients.Cohort:
        paths = ("bags/lite0.safetensors", "expression.parquet", "slides.parquet")
        paths += ("splits.tsv", "cohort.json")
        return patients.load_cohort(genes, *(self.results / path for path in paths))


def map_section(study: Study, fold: int) -> Maps:
    """Return all maps of the fold's test section."""
    parts, settings = study.parts(fold), study.settings
    (name,) = parts["test"]
    model, meta = checkpoint.load_model(study.results / "models" / RUN / f"fold-{fold}")
    genes, sets, first = study.choose(parts["train"], meta["genes"])
    section = study.sections[name]
    with open_slide(section.image, round(section.mpp, 4)) as slide:
        tiling = tiles.tile_slide(slide, settings["tiles"], SEED, name)
        encoder = registry.load(settings["features"])
        found = encode.extract(slide, tiling.table, encoder, settings["tiles"], 1)
        image_px = slide.size
    size = int(tiling.table["size"][0])
    windows = sliding(grid_cells(found.coords, size), SHAPE)
    over = cover(windows, len(found.coords))
    share = over / np.maximum(over.sum(axis=1), 1)[:, None]
    rows = np.array([meta["genes"].index(gene) for gene in genes])
    targets = map_targets.gene_targets(genes, rows)
    law = window_predictions.window_moments(
        Member(fold, model, meta), found.features, windows, targets, settings, SEED, name, 0
    )
    nulls = fit_nulls(study, parts, genes, found, windows)
    mixture = {}
    # A map of levels tile by tile, and one of the same windows as the flow's.
    for label, held in (("mixture", single_tiles(len(found.coords))), ("mixture-windows", windows)):
        levels = mixture_predictions.mixture_maps(
            Member(fold, model, meta),
            *(found.features, held, targets, settings, SEED, name),
            slide_bag(found.features, settings, name),
        )
        mixture[label] = levels.moments.mean
    print(json.dumps({"section": name, "mixture_gap": summarise_gap(levels.gap)}), flush=True)
    tile = at_spots(section.pixel_xy, found.coords, size, over.sum(axis=1) > 0)
    there = tile >= 0
    blocks = np.empty(len(there), np.int64)
    for number, region in enumerate(her2st.cut_regions(section, image_px)):
        blocks[region.spots] = number
    return Maps(
        name,
        study.grid(name)[there],
        blocks[there],
        genes,
        {key: np.array([genes.index(gene) for gene in of]) for key, of in sets.items()},
        study.measured(name, genes)[there],
        {
            "flow": (share @ law.mean)[tile[there]],
            "mixture": mixture["mixture"][tile[there]],
            "mixture-windows": (share @ mixture["mixture-windows"])[tile[there]],
            **{model: (share @ values)[tile[there]] for model, values in nulls.items()},
        },
        int((~there).sum()),
        first,
    )


def single_tiles(count: int) -> list[np.ndarray]:
    return [np.array([tile]) for tile in range(count)]


def slide_bag(
    features: np.ndarray, settings: dict[str, Any], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole section as a bag, for its point."""
    bags = settings["bags"]
    return clusters.bag(features, bags["k"], bags["iterations"], seed_for(SEED, "bags", name))


def summarise_gap(gap: np.ndarray) -> dict[str, float]:
    """Return the gaps of the genes: sum of the levels before scaling, minus the section's point."""
    middle, high = np.quantile(np.abs(gap), [0.5, 0.95])
    return {"median_absolute": round(float(middle), 4), "p95_absolute": round(float(high), 4)}


def fit_nulls(
    study: Study,
    parts: dict[str, list[str]],
    genes: list[str],
    found: feature_file.Features,
    windows: list[np.ndarray],
) -> dict[str, np.ndarray]:
    """Fit ridges on mean colour or features of the regions; predict the windows, (W, G) each."""
    cohort = study.cohort(genes)
    train, val = (
        patients.make_part(cohort, cohort.slides.filter(pl.col("unit").is_in(parts[part])))
        for part in ("train", "val")
    )
    of_windows = Bags(
        means=np.stack([found.features[own].mean(axis=0, keepdims=True) for own in windows]),
        sizes=np.array([[len(own)] for own in windows], np.float32),
        color=np.stack([found.color[own].mean(axis=0) for own in windows]),
        n_tiles=np.array([len(own) for own in windows]),
        slide_ids=[str(number) for number in range(len(windows))],
        encoder=cohort.bags.encoder,
        k=1,
    )
    asked = replace(val, bags=of_windows, bag_rows=np.arange(len(windows)))
    return {
        "ridge": ridge.fit(train, val, SEED, 0).predict(asked),
        "color-ridge": color_ridge(train, val, SEED, 0).predict(asked),
        "constant": np.repeat(train.truth.mean(axis=0, keepdims=True), len(windows), axis=0),
    }


def at_spots(xy: np.ndarray, coords: np.ndarray, size: int, mapped: np.ndarray) -> np.ndarray:
    """Return the mapped tile that contains each spot's centre, or -1."""
    place = {
        (int(x) // size, int(y) // size): row for row, (x, y) in enumerate(coords) if mapped[row]
    }
    return np.array([place.get((int(x // size), int(y // size)), -1) for x, y in xy], np.int64)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=common.ROOT / "results/her2st")
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared/data/her2st")
    args = parser.parse_args(argv)
    study = Study(args.results, args.data)
    models = args.results / "models" / RUN
    if not models.is_dir() or not args.data.is_dir():
        print(json.dumps({"name": "maps of her2st", "value": None, "ok": None}))
        return
    found = [map_section(study, fold) for fold in range(study.settings["folds"]["n"])]
    genes = pl.concat([gene_rows(of) for of in found])
    summary = summarise(found, genes)
    out = args.results / "maps"
    parquet.write_stamped(genes, out / "genes.parquet", {"cohort": "her2st"}, her2st.CAVEAT)
    parquet.write_stamped(summary, out / "summary.parquet", {"cohort": "her2st"}, her2st.CAVEAT)
    style.save(drawing.scores(summary), out, "scores")
    for name, shown in (("ERBB2", ["ERBB2"] * len(found)), ("first", [of.first for of in found])):
        style.save(drawing.examples(found, shown), out, name)
    for row in summary.iter_rows(named=True):
        values = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
        print(json.dumps(values), flush=True)


if __name__ == "__main__":
    cli.run(main)
