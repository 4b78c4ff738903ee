"""Simulated cohorts: `law` from this module, `demo` (painted slides) and `law2` from theirs.

Each consists of a sample sheet and an expression table like a user's, on which the ordinary stages
run, and of the truth, from which tests know the attainable scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.core import files, seeds
from slide2rna.core.log import progress
from slide2rna.features import feature_file
from slide2rna.simulate import demo_cohort, law2_cohort
from slide2rna.simulate.ground_truth import CLASSES, Floats, Law, load_law
from slide2rna.storage import parquet

PATIENTS = {"law": 400}
TILES = (80, 161)  # law: tiles of a slide, from 80 to below 161
DIM, LATENT = 64, 12  # law: features of a tile, and latent variables behind them
MAIN_SHARE = 0.75  # law: share of a tile's main class; the rest is mixed as in the slide
SIX_COLOURS = 6


def make(kind: str, out: str | Path, seed: int, workers: int = 1) -> None:
    """Write a simulated cohort.

    Parameters
    ----------
    kind
        `demo`, `law` or `law2`.
    out
        Folder for sheet.tsv, expression.parquet, truth.parquet, and slides/ or features/. done.json
        comes last. For further files of `demo` and `law2` see their modules.
    seed
        The run's seed; the law has a separate seed.
    workers
        Number of processes; the result doesn't depend on it.
    """
    out = Path(out)
    if kind == "demo":
        demo_cohort.make(out, seed, workers)
        return
    if kind == "law2":
        law2_cohort.make(out, seed)
        return
    law = load_law()
    (out / "done.json").unlink(missing_ok=True)
    rng = seeds.rng_for(seed, kind, "patients")
    pi, sites = law.patients(PATIENTS[kind], rng)
    names = [f"{kind.upper()}-{i + 1:03d}" for i in range(len(pi))]
    sheet, pi = _law_features(law, names, pi, sites, out, seed, workers)
    expression, z = _expression(law, pi, sites, seeds.rng_for(seed, kind, "expression"))
    table = pl.DataFrame(expression.astype(np.float32), schema=list(law.genes))
    parquet.write(table.insert_column(0, pl.Series("sample_id", names)), out / "expression.parquet")
    truth_columns = {"patient_id": names, "site": sites, "subtype": z}
    truth_columns |= {name: pi[:, k] for k, name in enumerate(CLASSES)}
    parquet.write(pl.DataFrame(truth_columns), out / "truth.parquet")
    files.write_text(sheet.write_csv(separator="\t"), out / "sheet.tsv")
    counts = {"kind": kind, "slides": sheet.height, "patients": len(names), "genes": len(law.genes)}
    files.write_json(counts | {"law": law.version, "seed": seed}, out / "done.json")


def _expression(
    law: Law, pi: Floats, sites: list[str], rng: np.random.Generator
) -> tuple[Floats, np.ndarray]:
    """Draw each patient's profile (patients, G) in log2(x+1) and subtype (patients,)."""
    x, z = law.sample(pi, np.array(sites), 1, rng)
    return x[:, 0], z[:, 0]


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
