"""Cohort `law2`: features of slides without images, and expression, from the second law.

A patient's random streams depend on its name only, so its slide and expression are the same in a
cohort of another size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.core import files, seeds
from slide2rna.core.log import progress
from slide2rna.features import feature_file
from slide2rna.simulate import mixture_patients
from slide2rna.simulate.ground_truth import Floats
from slide2rna.simulate.mixture_law import MixtureLaw, load_mixture_law
from slide2rna.simulate.mixture_patients import TISSUES, Tissue
from slide2rna.storage import parquet

COLUMNS = 25  # tiles in a row of a slide's grid


def make(out: Path, seed: int, n_patients: int | None = None) -> None:
    """Write the cohort.

    Parameters
    ----------
    out
        Folder for sheet.tsv, expression.parquet, features/, truth.parquet (shares, mean `m` and
        variance `V` of the state, per patient, as in the tiles) and truth_genes.parquet (module,
        attainable correlation and linear limit, per gene). done.json comes last.
    seed
        The run's seed; the law has a separate seed.
    n_patients
        Number of patients; None takes the number in law2.yaml.
    """
    (out / "done.json").unlink(missing_ok=True)
    law = load_mixture_law()
    n = n_patients or law.spec["patients"]
    names = [f"LAW2-{i + 1:03d}" for i in range(n)]
    sites = mixture_patients.draw_sites(law.spec, n, seeds.rng_for(seed, "law2", "sites"))
    slide_ids = [f"{name}-S1" for name in names]
    slides = [
        _write_features(law, slide_id, out, seed)
        for slide_id in progress(slide_ids, "writing features")
    ]
    tissue = Tissue(
        np.concatenate([slide.shares for slide in slides]),
        np.concatenate([slide.state for slide in slides]),
        np.concatenate([slide.variance for slide in slides]),
    )
    table = pl.DataFrame(
        _expression(law, names, tissue, seed).astype(np.float32), schema=list(law.genes)
    )
    parquet.write(table.insert_column(0, pl.Series("sample_id", names)), out / "expression.parquet")
    _write_truth(law, names, sites, tissue, out)
    sheet = pl.DataFrame(
        {"slide_id": slide_ids, "patient_id": names, "slide": [""] * n, "site": sites}
    )
    files.write_text(sheet.write_csv(separator="\t"), out / "sheet.tsv")
    counts = {"kind": "law2", "slides": n, "patients": n, "genes": len(law.genes)}
    files.write_json(counts | {"law": law.version, "seed": seed}, out / "done.json")


def _write_features(law: MixtureLaw, slide_id: str, out: Path, seed: int) -> Tissue:
    """Draw a patient and its slide, write the features, and return the tiles' summary."""
    rng = seeds.rng_for(seed, "law2", slide_id)
    patient = mixture_patients.draw_patients(law.spec, 1, rng)
    tiles = mixture_patients.draw_tiles(law.spec, patient, rng)
    classes = np.repeat(np.arange(len(TISSUES)), tiles.counts[0])
    states = np.concatenate([tiles.states, np.zeros(len(classes) - len(tiles.states))])
    order = rng.permutation(len(classes))
    features = law.tile_features(classes[order], states[order], rng)
    coords = np.stack(np.divmod(np.arange(len(classes)), COLUMNS), axis=1)[:, ::-1] * 256
    # Colours are those of a stain and independent of the tissue.
    mean = np.clip(0.6 + rng.normal(0, 0.05, 3) + rng.normal(0, 0.06, (len(classes), 3)), 0, 1)
    spread = np.abs(rng.normal(0.15, 0.03, (len(classes), 3)))
    tile_features = feature_file.Features(features, coords, np.hstack([mean, spread]))
    attributes = {"encoder": "law2", "mpp": 0.5, "tile_px": 256, "version": law.version}
    feature_file.write(out / "features" / f"{slide_id}.h5", tile_features, attributes)
    return tiles.summary()


def _expression(law: MixtureLaw, names: list[str], tissue: Tissue, seed: int) -> Floats:
    """Draw each patient's profile (patients, G) in log2(x+1)."""
    rows = zip(names, tissue.shares, tissue.state, tissue.variance, strict=True)
    return np.stack(
        [
            law.draw(shares, state, variance, seeds.rng_for(seed, "law2", name, "expression"))
            for name, shares, state, variance in rows
        ]
    )


def _write_truth(
    law: MixtureLaw, names: list[str], sites: list[str], tissue: Tissue, out: Path
) -> None:
    patients = pl.DataFrame({"patient_id": names, "site": sites}).with_columns(
        *(pl.Series(name, tissue.shares[:, k]) for k, name in enumerate(TISSUES)),
        pl.Series("m", tissue.state),
        pl.Series("V", tissue.variance),
    )
    parquet.write(patients, out / "truth.parquet")
    genes = {
        "gene": list(law.genes),
        "module": list(law.modules),
        "attainable": law.attainable,
        "linear_limit": law.linear_limit,
    }
    parquet.write(pl.DataFrame(genes), out / "truth_genes.parquet")
