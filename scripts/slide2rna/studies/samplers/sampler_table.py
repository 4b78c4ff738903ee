"""The table of samplers: what draws of fewer evaluations are worth, on the folds of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from slide2rna.core import files
from slide2rna.core.config import Settings
from slide2rna.core.log import progress
from slide2rna.core.types import Array, Row
from slide2rna.evaluation.scoring import averaged_scores, evaluated, score, summary, variant_scores
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.flow import solvers
from slide2rna.plan.runs import STUDENT
from slide2rna.studies.samplers import sampler_draws

LEVELS = (0.5, 0.8, 0.9)
# What may be lost to the reference before a sampler no longer counts as good as it.
CRPS_LOST, COVERAGE_LOST = 0.02, 0.03
POINT, CLIMATOLOGY, FLOOR = "posterior mean", "train profiles", "permuted profiles"
REFERENCE = "reference"
SCHEMA: dict[str, type[pl.DataType]] = {
    **{"sampler": pl.String, "kind": pl.String, "solver": pl.String, "steps": pl.Int64},
    **{"guidance": pl.Float64, "evaluations": pl.Int64, "draws": pl.Int64},
}
SCHEMA |= {name: summary.SCHEMA[name] for name in variant_scores.SHARED}


@dataclass(frozen=True)
class ScoredSampler:
    """A sampler; `label` is its name in the draws files."""

    label: str
    name: str
    solver: str
    steps: int
    guidance: float

    @property
    def facts(self) -> Row:
        kind = "student" if self.name == STUDENT else "sampler"
        evaluations = solvers.evaluations(self.solver, self.steps)
        shown = {"sampler": self.name, "kind": kind, "solver": self.solver, "steps": self.steps}
        return shown | {"guidance": self.guidance, "evaluations": evaluations}


def write_samplers(
    inputs: evaluated.EvaluationInputs,
    every: list[ScoredSampler],
    out: Path,
    settings: Settings,
    seed: int,
    threads: int,
) -> pl.DataFrame:
    """Score the samplers, write samplers.parquet and return its table.

    Parameters
    ----------
    inputs
        `draws` are those of the reference, `others` those of the other samplers.
    every
        The reference first.

    Notes
    -----
    Metrics beside the summary's: `crps_ratio`, CRPS divided by the reference's; `covered50` ...,
    `width90`, in log2 units; `covered50_minus:reference` ...; `seconds`, of solving a slide's 100
    draws, with the range over folds; `counts`, 1 for a sampler as good as the reference.

    Raises
    ------
    StageError
        The inputs don't belong together.
    """
    found = score.score_run(inputs, settings, seed, threads)
    clean = summary.summary_table(found).filter(pl.col("protocol") == "clean")
    scores = averaged_scores.AveragedScores(found)
    rows = _nulls(found, clean, scores)
    reference: dict[float, Array] = {}
    for variant in progress(every, "samplers"):
        of = found.of[variant.label]
        own = variant_scores.scores(clean, variant.label, ("pcc_draw_mean", "crps"))
        note = variant_scores.guided(of)
        shares = {}
        for level, (covered, width) in variant_scores.intervals(found, of, LEVELS).items():
            name, shares[level] = f"covered{level * 100:.0f}", covered
            own += variant_scores.rows(found, name, covered, (0, 1), note)
            own += variant_scores.rows(found, f"width{level * 100:.0f}", width)
        own += _seconds(found, variant)
        if variant is every[0]:
            reference = shares
        else:
            own += variant_scores.differences(
                clean, found.model, variant.label, ("pcc_draw_mean", "crps"), REFERENCE
            )
            own += _against(found, scores, variant, shares, reference)
        facts = variant.facts | {"draws": of[0].pool_size}
        facts |= {"kind": REFERENCE} if variant is every[0] else {}
        rows += [facts | row for row in own]
    table = pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.selectors.float().fill_nan(None))
    info = found.cohort.info
    stamp = {"cohort": info["name"], "protocol": "clean"}
    files.write_stamped(table, out / "samplers.parquet", stamp, info.get("caveat"))
    return table


def _nulls(
    found: Evaluated, clean: pl.DataFrame, scores: averaged_scores.AveragedScores
) -> list[Row]:
    """The point, and what draws of no worth would score: train profiles, permuted profiles."""
    point: Row = {"sampler": POINT, "kind": "point", "evaluations": 1}
    rows = [point | row for row in variant_scores.scores(clean, found.model, ("pcc",))]
    floor: Row = {"sampler": FLOOR, "kind": "null"}
    rows += [floor | row for row in variant_scores.scores(clean, found.model, ("pcc_floor",))]
    train: Row = {"sampler": CLIMATOLOGY, "kind": "null"}
    rows += [train | row for row in variant_scores.scores(clean, "constant", ("crps",))]
    ratio = scores("constant", "crps", "") / scores(found.model, "crps", "")
    return rows + [train | row for row in variant_scores.rows(found, "crps_ratio", ratio)]


def _seconds(found: Evaluated, variant: ScoredSampler) -> list[Row]:
    times = [sampler_draws.seconds(fold.path) for fold in found.of[variant.label]]
    told = [time for time in times if time is not None]
    if not told:
        return []
    note = "solving alone, on the machine that made the draws; range over folds"
    ends = {"value": float(np.median(told)), "low": min(told), "high": max(told)}
    return [{"gene_set": "all", "metric": "seconds", "note": note} | ends]


def _against(
    found: Evaluated,
    scores: averaged_scores.AveragedScores,
    variant: ScoredSampler,
    shares: dict[float, Array],
    reference: dict[float, Array],
) -> list[Row]:
    """CRPS and coverage beside the reference's, and whether the sampler counts."""
    ratio = scores(variant.label, "crps", "") / scores(found.model, "crps", "")
    rows = variant_scores.rows(found, "crps_ratio", ratio)
    lost, points = ["guided"] if variant.guidance != 1 else [], {}
    if ratio[0, 0] > 1 + CRPS_LOST:
        lost.append(f"CRPS {100 * (ratio[0, 0] - 1):.1f} % higher")
    for level in sorted(shares.keys() & reference.keys()):
        off = shares[level] - reference[level]
        rows += variant_scores.rows(found, f"covered{level * 100:.0f}_minus:{REFERENCE}", off)
        points[level] = 100 * float(off[0, 0])
    worst = max(points, key=lambda level: abs(points[level]), default=None)
    if worst is not None and abs(points[worst]) > 100 * COVERAGE_LOST:
        words = "less" if points[worst] < 0 else "more"
        lost.append(f"{100 * worst:.0f} % intervals cover {abs(points[worst]):.1f} points {words}")
    counts: dict[str, Any] = {"gene_set": "all", "metric": "counts", "value": float(not lost)}
    return [*rows, counts | {"note": "; ".join(lost)}]
