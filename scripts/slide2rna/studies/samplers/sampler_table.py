"""Sampler study: the quality of draws from fewer evaluations, on the folds of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.core.log import progress
from slide2rna.core.settings import EvaluateSettings
from slide2rna.core.types import Array, Row
from slide2rna.evaluation.scoring import averaged_scores, score, summary, variant_scores
from slide2rna.evaluation.scoring.evaluated import Evaluated, EvaluationInputs
from slide2rna.flow import solvers
from slide2rna.plan.runs import STUDENT
from slide2rna.storage import parquet
from slide2rna.studies.samplers import sampler_draws

LEVELS = (0.5, 0.8, 0.9)
# The largest losses to the reference at which a sampler still counts as good.
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
        """Columns of the table that describe the sampler."""
        kind = "student" if self.name == STUDENT else "sampler"
        evaluations = solvers.evaluations(self.solver, self.steps)
        columns = {"sampler": self.name, "kind": kind, "solver": self.solver, "steps": self.steps}
        return columns | {"guidance": self.guidance, "evaluations": evaluations}


def write_samplers(
    inputs: EvaluationInputs,
    samplers: list[ScoredSampler],
    out: Path,
    settings: EvaluateSettings,
    seed: int,
    threads: int,
) -> pl.DataFrame:
    """Score the samplers, write samplers.parquet and return its table.

    Parameters
    ----------
    inputs
        `draws` are those of the reference, `others` those of the other samplers.
    samplers
        The reference first.

    Notes
    -----
    Metrics in addition to the summary's: `crps_ratio`, CRPS divided by the reference's;
    `covered50` ..., `width90`, in log2 units; `covered50_minus:reference` ...; `seconds`, of
    solving 100 draws of a slide, with the range over folds; `counts`, 1 for a sampler as good as
    the reference.

    Raises
    ------
    StageError
        The inputs don't belong together.
    """
    evaluated = score.score_run(inputs, settings, seed, threads)
    clean = summary.summary_table(evaluated).filter(pl.col("protocol") == "clean")
    scores = averaged_scores.AveragedScores(evaluated)
    rows = _null_rows(evaluated, clean, scores)
    reference_coverage: dict[float, Array] = {}
    for sampler in progress(samplers, "samplers"):
        sampler_folds = evaluated.folds_by_model[sampler.label]
        sampler_rows = variant_scores.variant_rows(clean, sampler.label, ("pcc_draw_mean", "crps"))
        note = variant_scores.guidance_note(sampler_folds)
        coverage = {}
        intervals = variant_scores.interval_means(evaluated, sampler_folds, LEVELS)
        for level, (covered, width) in intervals.items():
            name, coverage[level] = f"covered{level * 100:.0f}", covered
            sampler_rows += variant_scores.interval_rows(evaluated, name, covered, (0, 1), note)
            sampler_rows += variant_scores.interval_rows(
                evaluated, f"width{level * 100:.0f}", width
            )
        sampler_rows += _seconds_rows(evaluated, sampler)
        if sampler is samplers[0]:
            reference_coverage = coverage
        else:
            sampler_rows += variant_scores.difference_rows(
                clean, evaluated.model, sampler.label, ("pcc_draw_mean", "crps"), REFERENCE
            )
            sampler_rows += _comparison_rows(
                evaluated, scores, sampler, coverage, reference_coverage
            )
        facts = sampler.facts | {"draws": sampler_folds[0].pool_size}
        facts |= {"kind": REFERENCE} if sampler is samplers[0] else {}
        rows += [facts | row for row in sampler_rows]
    table = pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.selectors.float().fill_nan(None))
    info = evaluated.cohort.info
    stamp = {"cohort": info["name"], "protocol": "clean"}
    parquet.write_stamped(table, out / "samplers.parquet", stamp, info.get("caveat"))
    return table


def _null_rows(
    evaluated: Evaluated, clean: pl.DataFrame, scores: averaged_scores.AveragedScores
) -> list[Row]:
    """Return the rows of the point and of two nulls: train profiles, permuted profiles."""
    point: Row = {"sampler": POINT, "kind": "point", "evaluations": 1}
    rows = [point | row for row in variant_scores.variant_rows(clean, evaluated.model, ("pcc",))]
    floor: Row = {"sampler": FLOOR, "kind": "null"}
    rows += [
        floor | row for row in variant_scores.variant_rows(clean, evaluated.model, ("pcc_floor",))
    ]
    train: Row = {"sampler": CLIMATOLOGY, "kind": "null"}
    rows += [train | row for row in variant_scores.variant_rows(clean, "constant", ("crps",))]
    ratio = scores("constant", "crps", "") / scores(evaluated.model, "crps", "")
    return rows + [
        train | row for row in variant_scores.interval_rows(evaluated, "crps_ratio", ratio)
    ]


def _seconds_rows(evaluated: Evaluated, sampler: ScoredSampler) -> list[Row]:
    times = [sampler_draws.seconds(fold.path) for fold in evaluated.folds_by_model[sampler.label]]
    present = [time for time in times if time is not None]
    if not present:
        return []
    note = "solving alone, on the machine that made the draws; range over folds"
    ends = {"value": float(np.median(present)), "low": min(present), "high": max(present)}
    return [{"gene_set": "all", "metric": "seconds", "note": note} | ends]


def _comparison_rows(
    evaluated: Evaluated,
    scores: averaged_scores.AveragedScores,
    sampler: ScoredSampler,
    coverage: dict[float, Array],
    reference_coverage: dict[float, Array],
) -> list[Row]:
    """Compare CRPS and coverage with the reference's; decide whether the sampler counts."""
    ratio = scores(sampler.label, "crps", "") / scores(evaluated.model, "crps", "")
    rows = variant_scores.interval_rows(evaluated, "crps_ratio", ratio)
    reasons, points = ["guided"] if sampler.guidance != 1 else [], {}
    if ratio[0, 0] > 1 + CRPS_LOST:
        reasons.append(f"CRPS {100 * (ratio[0, 0] - 1):.1f} % higher")
    for level in sorted(coverage.keys() & reference_coverage.keys()):
        difference = coverage[level] - reference_coverage[level]
        metric = f"covered{level * 100:.0f}_minus:{REFERENCE}"
        rows += variant_scores.interval_rows(evaluated, metric, difference)
        points[level] = 100 * float(difference[0, 0])
    worst = max(points, key=lambda level: abs(points[level]), default=None)
    if worst is not None and abs(points[worst]) > 100 * COVERAGE_LOST:
        words = "less" if points[worst] < 0 else "more"
        size = abs(points[worst])
        reasons.append(f"{100 * worst:.0f} % intervals cover {size:.1f} points {words}")
    counts: Row = {"gene_set": "all", "metric": "counts", "value": float(not reasons)}
    return [*rows, counts | {"note": "; ".join(reasons)}]
