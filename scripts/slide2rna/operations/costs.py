"""What a run has cost, stage by stage, and what it would cost with more slides.

Reads the benchmark file that Snakemake leaves of every job, its log, and the sizes of folders. Of n
slides with t tiles measured in J jobs, N slides with T tiles are taken to cost

    CPU hours    measured                               of what is done once
                 J' s + (measured - J s) N / n          of what grows with the slides
                 J' s + (measured - J s) N T / (n t)    of what grows with their tiles
    GPU, disk    the same with s = 0
    memory       measured + (N - n)(b k d + p g) 4 B    of a job with b bags, p profiles of a slide

where s is what a job takes to start; J' is J, or N / 64 for jobs of shards; k clusters of d
features make a bag, g genes a profile. Settings (network, epochs, draws, folds) are those measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from safetensors import safe_open

from slide2rna.core.errors import StageError
from slide2rna.slides import failures

ONCE, SLIDES, TILES = "once", "slides", "tiles"
# In the order of the flow: what a stage's hours grow with; its folders, and what those grow with.
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
# Bags and profiles per slide in a job's memory: as benchmarks/costs.py measures them, of cohort and
# bags as their code has them. The other stages read them slide by slide, or not at all.
HELD = {
    "cohort": (0.0, 2.0),
    "bags": (1.0, 0.0),
    "train": (3.0, 13.5),
    "evaluate": (3.4, 8.0),
    "shift": (2.4, 4.6),
}
# CPU seconds that a job takes before it does anything (imports, loading lite0), as measured.
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
    """What one stage took: CPU and GPU hours of all its jobs, GB of the largest, GB on disk."""

    jobs: int = 0
    cpu: float = 0.0
    gpu: float = 0.0
    memory: float = 0.0
    disk: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasuredRun:
    """A run as it was: slides, tiles of a slide on average, GB of its bag and profile, stages."""

    slides: int
    tiles: float
    bag: float
    profile: float
    stages: dict[str, StageCosts]


def measure(cohort: str | Path) -> MeasuredRun:
    """Read what a run of `results/<cohort>` has cost.

    A job that was killed and went on counts from its last start. A job was on a GPU if its log says
    so; its GPU hours are wall-clock time.

    Raises
    ------
    StageError
        The folder has no slides.parquet, or no benchmark files.
    """
    cohort = Path(cohort)
    if not (cohort / "slides.parquet").is_file():
        raise StageError(cohort, "no slides.parquet", "give the folder of a cohort that was run")
    slides = pl.scan_parquet(cohort / "slides.parquet").select(pl.len()).collect().item()
    stages: dict[str, StageCosts] = {}
    for path in sorted((cohort / "benchmarks").glob("*.tsv")):
        name = path.stem.partition("-")[0]
        if name not in STAGES:
            continue  # the generator's, which no cohort of one's own has
        row = pl.read_csv(path, separator="\t", infer_schema=False).row(-1, named=True)
        seconds, rss, cpu = (_number(row[key]) for key in ("s", "max_rss", "cpu_time"))
        stage = stages.setdefault(name, StageCosts())
        stage.jobs += 1
        stage.cpu += cpu / HOUR
        stage.gpu += seconds / HOUR * _on_gpu(cohort / "logs" / f"{path.stem}.log")
        stage.memory = max(stage.memory, rss * MIB / GB)
    if not stages:
        raise StageError(cohort, "no benchmark files", "run the cohort first")
    for name, (_, folders) in STAGES.items():
        sizes = {folder: _size(cohort / folder) / GB for folder in folders}
        if any(sizes.values()):
            stages.setdefault(name, StageCosts()).disk = sizes
    tiles = _tiles(cohort) / max(1, slides)
    return MeasuredRun(slides, tiles, _bag(cohort), _profile(cohort), stages)


def _number(text: str) -> float:
    """A cell; jobs of less than half a second have NA or -."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _on_gpu(log: Path) -> bool:
    # As `devices.choose` writes it.
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return "device: cuda (" in text


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(inside.stat().st_size for inside in path.rglob("*") if inside.is_file())
    return path.stat().st_size if path.is_file() else 0


def _tiles(cohort: Path) -> int:
    """Tiles that were encoded, of the encoder that has most slides."""
    counts = [0]
    for folder in sorted((cohort / "features").glob("*")):
        tables = [pl.read_parquet(path) for path in failures.manifests(folder)]
        if tables:
            # Where a cohort had more shards before, slides are in two; the lower number is today's.
            slides = pl.concat(tables).unique("slide_id", keep="first")
            found = slides.select("n_tiles", "n_rejected").sum().row(0)
            counts.append(sum(n or 0 for n in found))
    return max(counts)


def _bag(cohort: Path) -> float:
    """GB of one slide's bag, of the widest encoder."""
    widths = [0]
    for path in sorted((cohort / "bags").glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            _, clusters, features = file.get_slice("means").get_shape()
        widths.append(clusters * features)
    return max(widths) * FLOAT / GB


def _profile(cohort: Path) -> float:
    """GB of one sample's expression."""
    path = cohort / "expression.parquet"
    genes = len(pl.read_parquet_schema(path)) - 1 if path.is_file() else 0
    return genes * FLOAT / GB


def extrapolate(
    found: MeasuredRun, slides: int, tiles: float | None = None
) -> dict[str, StageCosts]:
    """The stages with `slides` slides of `tiles` tiles (default: as measured), by the formula."""
    tiles = found.tiles if tiles is None else tiles
    more = slides / found.slides
    grown = {ONCE: 1.0, SLIDES: more, TILES: more * tiles / found.tiles if found.tiles else more}
    made = {}
    for name, stage in found.stages.items():
        law, folders = STAGES[name]
        bags, profiles = HELD.get(name, (0.0, 0.0))
        held = (slides - found.slides) * (bags * found.bag + profiles * found.profile)
        jobs = -(-slides // SLIDES_PER_SHARD) if name in SHARDED else stage.jobs
        start = START_S.get(name, 0.0) / HOUR if law != ONCE else 0.0
        work = max(0.0, stage.cpu - stage.jobs * start)
        made[name] = StageCosts(
            jobs,
            jobs * start + work * grown[law],
            stage.gpu * grown[law],
            stage.memory + max(0.0, held),
            {folder: size * grown[folders[folder]] for folder, size in stage.disk.items()},
        )
    return made


def value(stage: StageCosts, quantity: str) -> float:
    """One of `QUANTITIES`."""
    return sum(stage.disk.values()) if quantity == "disk" else float(getattr(stage, quantity))


def table(found: MeasuredRun, sizes: Sequence[int], tiles: float | None = None) -> pl.DataFrame:
    """Tidy: stage, grows_with, slides, tiles, quantity, value; first for the measured size."""
    plans = [(found.slides, found.tiles, found.stages)]
    plans += [(n, tiles or found.tiles, extrapolate(found, n, tiles)) for n in sizes]
    rows = [
        (name, STAGES[name][0], slides, own, quantity, value(stages[name], quantity))
        for slides, own, stages in plans
        for name in STAGES
        if name in stages
        for quantity in QUANTITIES
    ]
    columns = ["stage", "grows_with", "slides", "tiles", "quantity", "value"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def text(cohort: Path, found: MeasuredRun, made: pl.DataFrame) -> str:
    """The tables as they are printed: one per quantity, a column per number of slides."""
    tiles = made["tiles"][-1]
    more = f"; extrapolated to {tiles:,.0f}" if tiles != found.tiles else ""
    parts = [f"{cohort}: {found.slides:,} slides of {found.tiles:,.0f} tiles{more}"]
    for quantity, title in QUANTITIES.items():
        own = made.filter(pl.col("quantity") == quantity)
        if not own["value"].max():
            parts.append(f"{title}: none")
            continue
        sizes = own["slides"].unique(maintain_order=True).to_list()
        head = ["stage", "grows with", f"{sizes[0]:,} (measured)", *(f"{n:,}" for n in sizes[1:])]
        rows = [
            [name, law, *(_shown(value) for value in part["value"])]
            for (name, law), part in own.group_by("stage", "grows_with", maintain_order=True)
            if part["value"].max()
        ]
        whole = own.group_by("slides", maintain_order=True).agg(pl.col("value"))["value"]
        total = max if quantity == "memory" else sum
        rows.append(
            ["together" if total is sum else "largest", "", *(_shown(total(v)) for v in whole)]
        )
        parts.append(_table(title, head, rows))
    return "\n\n".join(parts)


def _shown(number: float) -> str:
    """Two significant digits, more where there are more before the point."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}" if number < 1 else f"{number:.1f}"


def _table(title: str, head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([title, *(f"  {line}" for line in lines)])
