"""A finished cohort folder whose conditional law is known: Gaussian given the bag's mean.

Every file has the layout that the stages before evaluate leave, so evaluate and report can be
tested without them. The draws are exact, so a right evaluation finds them calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import zarr
from PIL import Image, ImageDraw
from slide2rna.core import files
from slide2rna.data.patients import Cohort
from slide2rna.evaluation.scoring.evaluated import EvaluationInputs
from slide2rna.features import bag_file
from slide2rna.storage import parquet

RUN, ENCODER, SET = "lite0-flow-go-bp", "lite0", "go-bp"


@dataclass(frozen=True)
class Synthetic:
    """Where the cohort lies, and the truth behind it."""

    folder: Path
    inputs: EvaluationInputs
    conditional_mean: np.ndarray
    noise_sd: np.ndarray
    slide_ids: list[str]


def make(
    folder: Path,
    patients: int = 60,
    genes: int = 200,
    draws: int = 60,
    folds: int = 3,
    signal: float = 1.0,
    draw_sd: float = 1.0,
    caveat: str | None = None,
    failed: int = 0,
    color: bool = True,
    seed: int = 7,
    dim: int = 12,
    guidance: float = 1.0,
    cal: int = 2,
) -> Synthetic:
    """Write the cohort.

    Parameters
    ----------
    signal : size of what depends on the slide, in units of the noise; genes' own factor runs
        from 0 to 1, so that the last gene is the most predictable.
    draw_sd : sd of the draws in units of the true one; 1 is a calibrated model.
    cal : patients of each fold that calibrate.
    failed : number of slides (the last ones) that failed and have no bag and no draws.
    """
    rng = np.random.default_rng(seed)
    names = [f"P{i:03d}" for i in range(patients)]
    # Every fifth patient has two slides that look the same up to a little noise.
    owner = [p for i, p in enumerate(names) for _ in range(2 if i % 5 == 0 else 1)]
    ids = [f"{p}-{'AB'[owner[:i].count(p)]}" for i, p in enumerate(owner)]
    site = {p: ("east" if i % 3 else "west") for i, p in enumerate(names)}
    index = np.array([names.index(p) for p in owner])

    latent = rng.normal(size=(patients, dim))
    strength = signal * np.linspace(0, 1, genes)
    loading = rng.normal(size=(dim, genes))
    loading /= np.linalg.norm(loading, axis=0)
    base, sd = rng.uniform(4, 9, genes), rng.uniform(0.4, 1.2, genes)
    mean = base + latent @ loading * strength * sd
    truth = (mean + rng.normal(size=mean.shape) * sd).astype(np.float32)
    truth[:, 0] = 3.0  # a gene that never varies

    _write_tables(folder, names, owner, ids, site, truth, caveat, folds, failed, cal, rng)
    kept = ids[: len(ids) - failed]
    k = 4
    noise = rng.normal(size=(len(ids), k, dim)) * 0.3
    noise -= noise.mean(axis=1, keepdims=True)
    centres = latent[index][:, None, :] + noise
    shade = latent[index, :1] * 0.05 + rng.normal(size=(len(ids), 6)) * 0.05 + 0.7
    if not color:
        shade[:] = np.nan
    bag_file.save(
        bag_file.Bags(
            centres[: len(kept)].astype(np.float32),
            np.full((len(kept), k), 10, np.float32),
            shade[: len(kept)].astype(np.float32),
            np.full(len(kept), 40 * k, np.int64),
            kept,
            ENCODER,
            k,
        ),
        folder / f"bags/{ENCODER}.safetensors",
    )
    splits = pl.read_csv(folder / "splits.tsv", separator="\t")
    models = []
    for fold in range(folds):
        part = dict(splits.filter(pl.col("fold") == fold).select("unit", "part").iter_rows())
        used = [i for i in range(len(kept)) if part[owner[i]] in ("val", "cal", "test")]
        centre = mean[index[used]]
        sample = centre[:, None, :] + draw_sd * sd * rng.normal(size=(len(used), draws, genes))
        sample[:, :, 0], centre[:, 0] = 3.0, 3.0
        stored = np.maximum(sample, 0).astype(np.float16)
        path = folder / f"draws/{RUN}/fold-{fold}.zarr"
        store = zarr.open_group(path, mode="w")
        for name, values in (
            ("draws", stored),
            ("mean", stored.mean(axis=1, dtype=np.float64).astype(np.float32)),
            ("sd", stored.astype(np.float64).std(axis=1, ddof=1).astype(np.float32)),
            ("point", centre.astype(np.float32)),
            ("point_spread", np.full(centre.shape, 0.05, np.float32)),
        ):
            chunks = (min(3, len(used)), *values.shape[1:])
            options = {"dtype": values.dtype, "chunks": chunks, "fill_value": np.nan}
            array = store.create_array(name, shape=values.shape, **options)
            array[:] = values
        store.attrs.update(
            {
                "slide_ids": [kept[i] for i in used],
                "parts": [part[owner[i]] for i in used],
                "genes": _genes(genes),
                "fold": fold,
                "guidance": guidance,
                "model": "flow",
                "steps": 20,
                "solver": "euler",
            }
        )
        model = folder / f"models/{RUN}/fold-{fold}"
        files.write_json(
            {
                "settings": {"model": {"name": "flow", "hidden": 8}},
                "genes": _genes(genes),
                "encoder": ENCODER,
                "best_epoch": 12,
            },
            model / "model.json",
        )
        epochs = np.arange(20)
        log = {
            "epoch": epochs,
            "train_loss": 1 + np.exp(-epochs / 5),
            "val_loss": 1.1 + np.exp(-epochs / 5),
            "lr": np.full(20, 1e-4),
        }
        parquet.write(pl.DataFrame(log), model / "log.parquet")
        models.append(model)
    inputs = EvaluationInputs(
        draws=[folder / f"draws/{RUN}/fold-{fold}.zarr" for fold in range(folds)],
        models=models,
        bags=folder / f"bags/{ENCODER}.safetensors",
        expression=folder / "expression.parquet",
        slides=folder / "slides.parquet",
        splits=folder / "splits.tsv",
        cohort=folder / "cohort.json",
        pathways=folder / f"pathways/{SET}.parquet",
    )
    return Synthetic(folder, inputs, mean, sd, ids)


def add_pictures(made: Synthetic, count: int = 6) -> None:
    """Thumbnails such as the tiles stage leaves, for the report's gallery."""
    for number, slide in enumerate(made.slide_ids[:count]):
        image = Image.new("RGB", (320, 240), (244, 240, 244))
        draw = ImageDraw.Draw(image)
        draw.ellipse((40, 30, 260 + 5 * number, 200), fill=(214, 150, 190), outline=(60, 20, 90))
        (made.folder / "tiles").mkdir(exist_ok=True)
        image.save(made.folder / f"tiles/{slide}.jpg")


def _genes(count: int) -> list[str]:
    return [f"GENE{i:04d}" for i in range(count)]


def _write_tables(folder, names, owner, ids, site, truth, caveat, folds, failed, cal, rng) -> None:
    genes, slides = _genes(truth.shape[1]), len(ids)
    null = pl.Series([None] * slides, dtype=pl.String)
    table = pl.DataFrame(
        {
            "slide_id": ids,
            "patient_id": owner,
            "sample_id": owner,
            "unit": owner,
            "site": [site[p] for p in owner],
            "path": [f"slides/{i}.svs" for i in ids],
            "url": null,
            "md5": null,
        }
    )
    parquet.write(table, folder / "slides.parquet")
    status = ["ok"] * (slides - failed) + ["failed"] * failed
    reason = [None] * (slides - failed) + ["broken.svs: no tissue; leave it out"] * failed
    marks = {"status": status, "reason": pl.Series(reason, dtype=pl.String)}
    for stage, extra in (
        ("slides", {}),
        ("tiles", {"n_tiles": [160] * slides, "mpp": [0.5] * slides}),
        (f"features/{ENCODER}", {"n_tiles": [160] * slides, "n_rejected": [1] * slides}),
    ):
        frame = pl.DataFrame({"slide_id": ids} | marks | extra)
        if stage == "slides":
            frame = frame.with_columns(pl.lit("ok").alias("status"), pl.lit(None).alias("reason"))
        parquet.write(frame, folder / stage / "shard-0.parquet")
    expression = {"sample_id": names} | {g: truth[:, i] for i, g in enumerate(genes)}
    parquet.write(pl.DataFrame(expression), folder / "expression.parquet")

    order = rng.permutation(len(names))
    rows = []
    for fold in range(folds):
        tested = {names[i] for i in order[fold::folds]}
        rest = [names[i] for i in order if names[i] not in tested]
        eighth = max(2, len(rest) // 8)
        parts = {name: "train" for name in rest}
        parts |= dict.fromkeys(rest[:eighth], "val")
        parts |= dict.fromkeys(rest[eighth : eighth + cal], "cal")
        parts |= dict.fromkeys(tested, "test")
        rows += [(name, fold, parts[name]) for name in names]
    splits = pl.DataFrame(rows, schema=["unit", "fold", "part"], orient="row")
    files.write_text(splits.write_csv(separator="\t"), folder / "splits.tsv")
    info = {
        "name": "synthetic",
        "source": "sheet",
        "split_unit": "patient",
        "caveat": caveat,
        "n_slides": slides,
        "n_patients": len(names),
        "n_samples": len(names),
        "n_genes": len(genes),
        "n_sites": 2,
        "flow": [
            {"step": "rows of the sheet", "slides": slides + 2, "patients": len(names) + 1},
            {"step": "with expression", "slides": slides, "patients": len(names)},
        ],
        "dropped": [{"slide_id": "X-A", "patient_id": "X", "reason": "no expression"}],
        "folds": folds,
    }
    files.write_json(info, folder / "cohort.json")
    members = [
        (f"GO:{p:07d}", f"process number {p}", gene)
        for p in range(8)
        for gene in genes[p * len(genes) // 10 : p * len(genes) // 10 + len(genes) // 8]
    ]
    sets = pl.DataFrame(members, schema=["pathway", "name", "gene"], orient="row")
    parquet.write(sets, folder / f"pathways/{SET}.parquet")
    about = {"source": SET, "P": 8, "G": len(genes), "memberships": sets.height}
    files.write_json(about | {"edges": 7, "edge_density": 0.25}, folder / f"pathways/{SET}.json")
    files.write_json({"ok": True}, folder / "guard.json")


def load(made: Synthetic) -> Cohort:
    """The cohort as evaluate reads it."""
    from slide2rna.evaluation.scoring import score

    return score.load_cohort(made.inputs)
