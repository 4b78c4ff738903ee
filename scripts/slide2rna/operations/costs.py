"""Costs of a run by stage, measured and extrapolated to more slides.

The measurements are Snakemake's benchmark file and log of each job, and the sizes of folders. From
n slides with t tiles measured in J jobs, the formula estimates for N slides with T tiles

    CPU hours    measured                               for stages that run once
                 J' s + (measured - J s) N / n          for stages that grow with the slides
                 J' s + (measured - J s) N T / (n t)    for stages that grow with the tiles
    GPU, disk    the same with s = 0
    memory       measured + (N - n)(b k d + p g) 4 B    for a job with b bags, p profiles per slide

where s is a job's start-up time; J' is J, or N / 64 for jobs of shards; k clusters of d features
make a bag, g genes a profile. Settings (network, epochs, draws, folds) are those measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from safetensors import safe_open

from slide2rna.core.errors import StageError
from slide2rna.slides import failures
from slide2rna.storage import parquet

ONCE, SLIDES, TILES = "once", "slides", "tiles"
# Stages in workflow order: the growth law of a stage's hours, and of each of its folders.
STAGES: dict[str, tuple[str, dict[str, str]]] = {
    "cohort": (SLIDES, {"slides.parquet": SLIDES, "expression.parquet": SLIDES, "star": SLIDES}),
    "download": (SLIDES, {"slides": SLIDES}),
    "split": (SLIDES, {}),
    "guard": (SLIDES, {}),
    "tiles": (SLIDES, {"tiles": SLIDES}),
    "weights": (ONCE, {"weights": ONCE}),
    "features": (TILES, {"features": TILES}),
    "consume": (TILES, {}),
    "bags": (TILES, {"bags": SLIDES}),
    "resample": (TILES, {}),
    "pathways": (ONCE, {"pathways": ONCE}),
    "train": (SLIDES, {"models": ONCE}),
    "sample": (SLIDES, {"draws": SLIDES}),
    "evaluate": (SLIDES, {"evaluation": ONCE}),
    "shift": (SLIDES, {"shift": SLIDES}),
    "abstain": (SLIDES, {}),
    "package": (SLIDES, {}),
    "stain": (ONCE, {"stain": ONCE}),
    "ablations": (ONCE, {"ablations": ONCE}),
    "distil": (SLIDES, {}),
    "sample_variants": (SLIDES, {"samplers": SLIDES}),
    "samplers": (SLIDES, {}),
    "leak_audit": (SLIDES, {"leak_audit": ONCE}),
    "external": (SLIDES, {"external": SLIDES}),
    "export": (SLIDES, {"export": SLIDES}),
    "report": (ONCE, {"report": ONCE}),
}
# Bags and profiles per slide in a job's memory, measured by benchmarks/costs.py; the numbers of
# cohort and bags come from their code. Other stages read slide by slide, or read neither.
MEMORY_SHARES = {
    "cohort": (0.0, 2.0),
    "bags": (1.0, 0.0),
    "train": (3.0, 13.5),
    "evaluate": (3.4, 8.0),
    "shift": (2.4, 4.6),
}
# As many more in `train` for each further bag to train on: the bags of the train slides (two thirds
# of all), and the same standardised while the mean is fitted.
RESAMPLED_SHARE = 1.3
# Measured start-up time of a job in CPU seconds (imports, loading lite0).
START_S = {
    "download": 0.6,
    "split": 0.7,
    "guard": 0.5,
    "cohort": 1.2,
    "tiles": 1.2,
    "features": 4.6,
    "bags": 0.9,
}
START_S |= {"consume": 4.6, "train": 3.3, "sample": 3.4, "evaluate": 1.7, "shift": 2.3}
START_S |= {"abstain": 1.5, "package": 3.5, "export": 4.3, "distil": 3.3, "sample_variants": 3.4}
SHARDED, SLIDES_PER_SHARD = ("download", "tiles", "features", "consume"), 64
QUANTITIES = {
    "cpu": "CPU, hours",
    "gpu": "GPU, hours",
    "memory": "memory of the largest job, GB",
    "disk": "disk, GB",
}
GB, HOUR, MIB, FLOAT = 1e9, 3600.0, 2**20, 4


@dataclass
class StageCosts:
    """Costs of one stage: CPU and GPU hours of all jobs, GB of the largest job, GB on disk."""

    jobs: int = 0
    cpu: float = 0.0
    gpu: float = 0.0
    memory: float = 0.0
    disk: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasuredRun:
    """A measured run: slides, mean tiles per slide, GB of one bag and one profile, stages.

    `resamples` is the largest number of resampled bags per slide in any file.
    """

    slides: int
    tiles: float
    bag_gb: float
    profile_gb: float
    stages: dict[str, StageCosts]
    resamples: int = 0


def measure(cohort: str | Path) -> MeasuredRun:
    """Read the costs of a run from `results/<cohort>`.

    A job that was killed and resumed counts from its last start. A job's log says whether it used
    a GPU; its GPU hours are wall-clock time.

    Raises
    ------
    StageError
        The folder has no slides.parquet, or no benchmark files.
    """
    cohort = Path(cohort)
    if not (cohort / "slides.parquet").is_file():
        raise StageError(cohort, "no slides.parquet", "give the folder of a finished cohort")
    slides = parquet.count_rows(cohort / "slides.parquet")
    stages: dict[str, StageCosts] = {}
    for path in sorted((cohort / "benchmarks").glob("*.tsv")):
        name = path.stem.partition("-")[0]
        if name not in STAGES:
            continue  # job of the demo generator, absent in a user's cohort
        row = pl.read_csv(path, separator="\t", infer_schema=False).row(-1, named=True)
        seconds, rss, cpu = (_parse_number(row[key]) for key in ("s", "max_rss", "cpu_time"))
        stage = stages.setdefault(name, StageCosts())
        stage.jobs += 1
        stage.cpu += cpu / HOUR
        stage.gpu += seconds / HOUR * _ran_on_gpu(cohort / "logs" / f"{path.stem}.log")
        stage.memory = max(stage.memory, rss * MIB / GB)
    if not stages:
        raise StageError(cohort, "no benchmark files", "run the cohort first")
    for name, (_, folders) in STAGES.items():
        sizes = {folder: _bytes_on_disk(cohort / folder) / GB for folder in folders}
        if any(sizes.values()):
            stages.setdefault(name, StageCosts()).disk = sizes
    tiles = _count_tiles(cohort) / max(1, slides)
    resampled = (cohort / "bags").glob("*/resamples-*-*.safetensors")
    resamples = max((int(path.name.split("-")[1]) for path in resampled), default=0)
    return MeasuredRun(slides, tiles, _bag_gb(cohort), _profile_gb(cohort), stages, resamples)


def _parse_number(text: str) -> float:
    """Read a cell; jobs of less than half a second have NA or -, which counts as 0."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _ran_on_gpu(log: Path) -> bool:
    # `devices.choose_device` writes this line.
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return "device: cuda (" in text


def _bytes_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else 0


def _count_tiles(cohort: Path) -> int:
    """Return the number of encoded tiles, including rejected ones, of the encoder with most."""
    counts = [0]
    for folder in sorted((cohort / "features").glob("*")):
        tables = [parquet.read(path) for path in failures.manifests(folder)]
        if tables:
            # If the cohort once had more shards, a slide may be in two; the lower one is current.
            slides = pl.concat(tables).unique("slide_id", keep="first")
            accepted_rejected = slides.select("n_tiles", "n_rejected").sum().row(0)
            counts.append(sum(n or 0 for n in accepted_rejected))
    return max(counts)


def _bag_gb(cohort: Path) -> float:
    """Return the GB of one slide's bag, for the encoder with the largest."""
    widths = [0]
    for path in sorted((cohort / "bags").glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            _, clusters, features = file.get_slice("means").get_shape()
        widths.append(clusters * features)
    return max(widths) * FLOAT / GB


def _profile_gb(cohort: Path) -> float:
    """Return the GB of one sample's expression."""
    path = cohort / "expression.parquet"
    genes = len(parquet.read_names(path)) - 1 if path.is_file() else 0
    return genes * FLOAT / GB


def extrapolate(
    measured: MeasuredRun, slides: int, tiles: float | None = None
) -> dict[str, StageCosts]:
    """Estimate the stages' costs for `slides` slides of `tiles` tiles (default: as measured)."""
    tiles = measured.tiles if tiles is None else tiles
    more_slides = slides / measured.slides
    more_tiles = more_slides * tiles / measured.tiles if measured.tiles else more_slides
    growth = {ONCE: 1.0, SLIDES: more_slides, TILES: more_tiles}
    stages = {}
    for name, stage in measured.stages.items():
        law, folders = STAGES[name]
        bags, profiles = MEMORY_SHARES.get(name, (0.0, 0.0))
        if name == "train":
            bags += RESAMPLED_SHARE * measured.resamples
        per_slide = bags * measured.bag_gb + profiles * measured.profile_gb
        extra_memory = (slides - measured.slides) * per_slide
        jobs = -(-slides // SLIDES_PER_SHARD) if name in SHARDED else stage.jobs
        start = START_S.get(name, 0.0) / HOUR if law != ONCE else 0.0
        work = max(0.0, stage.cpu - stage.jobs * start)
        stages[name] = StageCosts(
            jobs,
            jobs * start + work * growth[law],
            stage.gpu * growth[law],
            stage.memory + max(0.0, extra_memory),
            {folder: size * growth[folders[folder]] for folder, size in stage.disk.items()},
        )
    return stages


def cost(stage: StageCosts, quantity: str) -> float:
    """Return one of a stage's `QUANTITIES`."""
    return sum(stage.disk.values()) if quantity == "disk" else float(getattr(stage, quantity))


def cost_table(
    measured: MeasuredRun, sizes: Sequence[int], tiles: float | None = None
) -> pl.DataFrame:
    """Return stage, grows_with, slides, tiles, quantity, value, tidy; the measured size first."""
    plans = [(measured.slides, measured.tiles, measured.stages)]
    plans += [(n, tiles or measured.tiles, extrapolate(measured, n, tiles)) for n in sizes]
    rows = [
        (name, STAGES[name][0], slides, slide_tiles, quantity, cost(stages[name], quantity))
        for slides, slide_tiles, stages in plans
        for name in STAGES
        if name in stages
        for quantity in QUANTITIES
    ]
    columns = ["stage", "grows_with", "slides", "tiles", "quantity", "value"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def format_costs(cohort: Path, measured: MeasuredRun, costs: pl.DataFrame) -> str:
    """Format the costs for printing: a table per quantity, a column per number of slides."""
    tiles = costs["tiles"][-1]
    more = f"; extrapolated to {tiles:,.0f}" if tiles != measured.tiles else ""
    parts = [f"{cohort}: {measured.slides:,} slides of {measured.tiles:,.0f} tiles{more}"]
    for quantity, title in QUANTITIES.items():
        values = costs.filter(pl.col("quantity") == quantity)
        if not values["value"].max():
            parts.append(f"{title}: none")
            continue
        sizes = values["slides"].unique(maintain_order=True).to_list()
        head = ["stage", "grows with", f"{sizes[0]:,} (measured)", *(f"{n:,}" for n in sizes[1:])]
        rows = [
            [name, law, *(_format_number(value) for value in part["value"])]
            for (name, law), part in values.group_by("stage", "grows_with", maintain_order=True)
            if part["value"].max()
        ]
        by_size = values.group_by("slides", maintain_order=True).agg(pl.col("value"))["value"]
        total = max if quantity == "memory" else sum
        label = "together" if total is sum else "largest"
        rows.append([label, "", *(_format_number(total(v)) for v in by_size)])
        parts.append(_format_table(title, head, rows))
    return "\n\n".join(parts)


def _format_number(number: float) -> str:
    """Round to two significant digits, but keep all digits before the decimal point."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}" if number < 1 else f"{number:.1f}"


def _format_table(title: str, head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([title, *(f"  {line}" for line in lines)])
