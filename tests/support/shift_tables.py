"""What the stages shift and stain leave for a synthetic cohort, made by the stages themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import synthetic_cohort
from slide2rna.core import config
from slide2rna.storage import parquet
from slide2rna.studies.shift import abstention, distances
from slide2rna.studies.stain import tables
from slide2rna.studies.stain.stain import CHANGES, HALF_TILES, UNCHANGED

SETTINGS = config.defaults("shift", bootstrap=30, permutations=40, components=6)


def inputs(made: synthetic_cohort.Synthetic, draws: Path) -> distances.ShiftInputs:
    of = made.inputs
    return distances.ShiftInputs(draws, of.bags, of.expression, of.slides, of.splits, of.cohort)


def add_shift(
    made: synthetic_cohort.Synthetic, draws: list[Path] | None = None, run: str = ""
) -> Path:
    """Run the stage shift on every fold; returns its folder."""
    run = run or synthetic_cohort.RUN
    out = made.folder / "shift" / run
    for number, path in enumerate(draws or made.inputs.draws):
        table, saved = out / f"fold-{number}.parquet", out / f"fold-{number}.safetensors"
        distances.measure_shift(inputs(made, path), run, table, saved, SETTINGS, 1, 1)
    return out


def add_abstention(
    made: synthetic_cohort.Synthetic,
    evaluation: Path,
    draws: list[Path] | None = None,
    run: str = "",
) -> Path:
    """Run the stage abstain; returns its table's path."""
    run = run or synthetic_cohort.RUN
    of, folder = made.inputs, made.folder / "shift" / run
    paths = draws or of.draws
    judged = [folder / f"fold-{number}.parquet" for number in range(len(paths))]
    files = (of.bags, of.expression, of.slides, of.splits, of.cohort)
    out = folder / "abstention.parquet"
    abstention.abstention_table(
        abstention.AbstentionInputs(paths, judged, evaluation, *files), run, out, SETTINGS, 1
    )
    return out


def add_stain(folder: Path, run: str, genes: list[str], slides: int = 6, seed: int = 2) -> None:
    """Drawn shifts of a slide per patient: blur moves most, half the tiles by 0.05 sd."""
    import polars as pl

    rng = np.random.default_rng(seed)
    sizes = np.array(
        [0.05 if k == HALF_TILES else 0.02 + 0.1 * (k == "sharpness") for k, _ in CHANGES]
    )
    shifts = sizes[:, None, None] * rng.normal(size=(len(CHANGES), slides, len(genes)))
    rows = []
    for slide in range(slides):
        keys = {"fold": slide % 2, "slide_id": f"S{slide}", "unit": f"P{slide}", "n_tiles": 40}
        keys |= {"spread": 0.3, "stored_off": 1e-7, "n_cal": 49}
        for index, (kind, strength) in enumerate([(UNCHANGED, None), *CHANGES]):
            moved = np.abs(shifts[index - 1, slide]) if index else np.zeros(len(genes))
            far = {"moved": moved.mean(), "share_over": (moved > 0.5).mean()}
            p = {"bag_distance": 0.5 + moved.mean(), "bag_p": 0.5, "bag_p_train": 0.5}
            if kind == "sharpness":
                p |= {"bag_p": 0.02, "bag_p_train": 0.02}
            rows.append(keys | {"kind": kind, "strength": strength} | far | p)
    table = pl.DataFrame(rows, schema=tables.SLIDES)
    sums = np.stack(
        [shifts.sum(axis=1), np.abs(shifts).sum(axis=1), np.full(shifts[:, 0].shape, slides)]
    )
    made = {
        "slides": table,
        "genes": tables.gene_table(genes, sums),
        "stain": tables.summary(table, len(genes), 0.05, 1),
    }
    for name, one in made.items():
        parquet.write_stamped(one, folder / "stain" / run / f"{name}.parquet", {"run": run}, None)
