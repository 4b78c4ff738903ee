"""Simulated cohorts: `demo` with painted slides, `law` and `law2` with features alone.

Each consists of a sample sheet and an expression table like a user's, so that the ordinary stages
run on them, and of the truth, so that tests can state what is attainable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from slide2rna import STEP_VERSIONS
from slide2rna.core import files, process, seeds
from slide2rna.core.log import progress
from slide2rna.features import feature_file
from slide2rna.simulate import law2_cohort
from slide2rna.simulate.ground_truth import CLASSES, Floats, Law, load_law
from slide2rna.simulate.paint import Plan, paint
from slide2rna.slides import aperio_writer

PATIENTS = {"demo": 40, "law": 400}
SECOND_SLIDES = 8  # number of demo patients with two slides
EDGE_PX = (2304, 2817)  # edges of a demo slide, from 2304 to below 2817
SCANNED_40X = (3, 17, 29)  # places in the list of slides
PEN, NO_MPP = 6, 11
LITTLE_TISSUE = 4  # among the second slides, so that the patient's other slide is good
TILES = (80, 161)  # law: tiles of a slide, from 80 to below 161
DIM, LATENT = 64, 12  # law: features of a tile, and latent variables behind them
MAIN_SHARE = 0.75  # law: share of a tile's main class; the rest is mixed as in the slide
SIX_COLOURS = 6


@dataclass(frozen=True)
class SimulatedSlide:
    """Slide to paint, and its scan; its repr is part of the record of a painted slide."""

    patient_id: str
    plan: Plan
    power: int = 20
    says_mpp: bool = True


def make(kind: str, out: str | Path, seed: int, workers: int = 1) -> None:
    """Write a simulated cohort.

    Parameters
    ----------
    kind
        `demo`, `law` or `law2`.
    out
        Folder for sheet.tsv, expression.parquet, truth.parquet, and slides/ or features/. Slides
        that exist aren't painted again. done.json comes last. `law2` also has truth_genes.parquet.
    seed
        The run's seed; the law has a separate seed.
    workers
        Number of processes; the result doesn't depend on it.
    """
    out = Path(out)
    if kind == "law2":
        law2_cohort.make(out, seed)
        return
    law = load_law()
    (out / "done.json").unlink(missing_ok=True)
    rng = seeds.rng_for(seed, kind, "patients")
    pi, sites = law.patients(PATIENTS[kind], rng)
    names = [f"{kind.upper()}-{i + 1:03d}" for i in range(len(pi))]
    build = _demo_slides if kind == "demo" else _law_features
    sheet, pi = build(law, names, pi, sites, out, seed, workers)
    expression, z = _expression(law, pi, sites, seeds.rng_for(seed, kind, "expression"))
    table = pl.DataFrame(expression.astype(np.float32), schema=list(law.genes))
    files.write_parquet(
        table.insert_column(0, pl.Series("sample_id", names)), out / "expression.parquet"
    )
    truth_columns = {"patient_id": names, "site": sites, "subtype": z}
    truth_columns |= {name: pi[:, k] for k, name in enumerate(CLASSES)}
    files.write_parquet(pl.DataFrame(truth_columns), out / "truth.parquet")
    files.write_text(sheet.write_csv(separator="\t"), out / "sheet.tsv")
    counts = {"kind": kind, "slides": sheet.height, "patients": len(names), "genes": len(law.genes)}
    files.write_json(counts | {"law": law.version, "seed": seed}, out / "done.json")


def _expression(
    law: Law, pi: Floats, sites: list[str], rng: np.random.Generator
) -> tuple[Floats, np.ndarray]:
    """Draw each patient's profile (patients, G) in log2(x+1) and subtype (patients,)."""
    x, z = law.sample(pi, np.array(sites), 1, rng)
    return x[:, 0], z[:, 0]


def _demo_slides(
    law: Law, names: list[str], pi: Floats, sites: list[str], out: Path, seed: int, workers: int
) -> tuple[pl.DataFrame, Floats]:
    """Paint the slides; return the sheet, and patients' shares as the mean over their slides."""
    slides = list(_plans(law, names, pi, sites, seed))
    shares = np.zeros((len(slides), len(CLASSES)))
    parent = (os.getpid(),)
    with ProcessPoolExecutor(workers, initializer=process.end_with_parent, initargs=parent) as pool:
        painted = pool.map(partial(_paint_slide, folder=out / "slides", seed=seed), slides)
        for i, slide_shares in enumerate(progress(painted, "painting", total=len(slides))):
            shares[i] = slide_shares
    # The scrap has too little tissue to describe its patient.
    whole = np.array([slide.plan.cover > 0.1 for slide in slides])
    patient = np.array([names.index(slide.patient_id) for slide in slides])
    pi = np.stack([shares[whole & (patient == i)].mean(axis=0) for i in range(len(names))])
    sheet = pl.DataFrame(
        {
            "slide_id": [slide.plan.slide_id for slide in slides],
            "patient_id": [slide.patient_id for slide in slides],
            "slide": [f"slides/{slide.plan.slide_id}.svs" for slide in slides],
            "site": [slide.plan.site for slide in slides],
            "mpp": [None if slide.says_mpp else 0.5 for slide in slides],
        },
        schema_overrides={"mpp": pl.Float64},
    )
    return sheet, pi


def _plans(
    law: Law, names: list[str], pi: Floats, sites: list[str], seed: int
) -> Iterator[SimulatedSlide]:
    """Yield the demo's slides: each patient's first slide, then the second slides."""
    second = seeds.rng_for(seed, "demo", "second").permutation(len(names))[:SECOND_SLIDES]
    order = [(i, 1) for i in range(len(names))] + [(int(i), 2) for i in sorted(second)]
    for place, (i, number) in enumerate(order):
        slide_id = f"{names[i]}-S{number}"
        rng = seeds.rng_for(seed, "demo", slide_id)
        shares = law.slide_shares(pi[i], rng)
        width, height = (int(edge) for edge in rng.integers(*EDGE_PX, 2))
        scrap = place == len(names) + LITTLE_TISSUE
        yield SimulatedSlide(
            names[i],
            Plan(
                slide_id,
                *(width, height, tuple(shares.tolist()), sites[i]),
                cover=0.03 if scrap else 0.78,
                pen=place == PEN,
            ),
            power=40 if place in SCANNED_40X else 20,
            says_mpp=place != NO_MPP,
        )


def _paint_slide(slide: SimulatedSlide, folder: Path, seed: int) -> list[float]:
    """Paint and write one slide, unless it exists; return its shares as painted."""
    path = folder / f"{slide.plan.slide_id}.svs"
    note = folder / f"{slide.plan.slide_id}.json"
    key = [STEP_VERSIONS["demo"], seed, repr(slide)]
    if path.exists() and note.exists():
        record = files.read_json(note)
        if record["key"] == key:
            return record["shares"]
    note.unlink(missing_ok=True)  # it would certify the new slide if this run ended in between
    rgb, shares, _ = paint(slide.plan, seed)
    mpp = 0.5
    if slide.power == 40:
        height, width = rgb.shape[:2]
        image = Image.fromarray(rgb).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
        rgb, mpp = np.asarray(image), 0.25
    if slide.says_mpp:
        aperio_writer.write(path, rgb, mpp=mpp, power=slide.power)
    else:
        aperio_writer.write(path, rgb, mpp=None, power=None)
    files.write_json({"key": key, "shares": shares.tolist()}, note)
    files.sweep()  # a process of the pool has no other cleanup
    return shares.tolist()


def _law_features(
    law: Law, names: list[str], pi: Floats, sites: list[str], out: Path, seed: int, workers: int
) -> tuple[pl.DataFrame, Floats]:
    """Write a features file per patient; each patient has one slide without an image."""
    world = seeds.rng_for(law.spec["seed"], "law", "features")
    classes = world.normal(0, 1, (len(CLASSES), LATENT))
    mixing = world.normal(0, LATENT**-0.5, (LATENT, DIM))
    shift = world.normal(0, 0.3, DIM)
    colours = world.uniform(0.35, 0.9, (len(CLASSES), 3))
    slide_ids = [f"{name}-S1" for name in names]
    for i, slide_id in enumerate(progress(slide_ids, "writing features")):
        rng = seeds.rng_for(seed, "law", slide_id)
        n = int(rng.integers(*TILES))
        main_class = np.eye(len(CLASSES))[rng.choice(len(CLASSES), n, p=pi[i])]
        mixture = MAIN_SHARE * main_class + (1 - MAIN_SHARE) * rng.dirichlet(6 * pi[i], n)
        latent = mixture @ classes + rng.normal(0, 0.35, (n, LATENT))
        at_b = float(sites[i] == "B")
        features = np.tanh(latent @ mixing) + at_b * shift + rng.normal(0, 0.15, (n, DIM))
        stain = rng.normal(0, 0.05, 3) - at_b * 0.08
        mean = np.clip(mixture @ colours + stain + rng.normal(0, 0.06, (n, 3)), 0, 1)
        spread = np.abs(rng.normal(0.15, 0.03, (n, SIX_COLOURS - 3)))
        coords = np.stack(np.divmod(np.arange(n), 12), axis=1)[:, ::-1] * 256
        tile_features = feature_file.Features(features, coords, np.hstack([mean, spread]))
        attributes = {"encoder": "law", "mpp": 0.5, "tile_px": 256, "version": law.version}
        feature_file.write(out / "features" / f"{slide_id}.h5", tile_features, attributes)
    sheet = pl.DataFrame(
        {"slide_id": slide_ids, "patient_id": names, "slide": [""] * len(names), "site": sites}
    )
    return sheet, pi
