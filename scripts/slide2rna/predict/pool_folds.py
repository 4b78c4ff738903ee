"""Ensemble of a run's fold models on one slide: mean point, pooled draws, mean interval ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slide2rna.core.errors import SlideError
from slide2rna.core.log import progress
from slide2rna.core.types import Array
from slide2rna.evaluation.uncertainty.conformal import interval
from slide2rna.flow import one_step
from slide2rna.flow.velocity import RNAFM
from slide2rna.package.fold_models import FoldModel
from slide2rna.package.predictor import Predictor
from slide2rna.sampling import draw
from slide2rna.sampling.draw_file import DRAWS_PER_CHUNK
from slide2rna.sampling.draw_summary import BYTES_PER_GENE, QUANTILES, DrawStats
from slide2rna.studies.shift import decision

QUANTILE_COLUMNS = ("q05", "q50", "q95")
# With fewer chunks, the progress over fold models is enough.
PROGRESS_CHUNKS = 4


@dataclass(frozen=True)
class PooledPrediction:
    """Prediction of a slide by the ensemble of fold models.

    Attributes
    ----------
    draws_per_fold : 0 for networks that predict only points.
    point : (G,) mean of the fold models' points.
    genes, pathways : mean, sd, q05, q50, q95 (G,) and (P,) of all draws together. For networks
        without draws the mean is the point, and the others are None.
    intervals : ends (2, G) by level, without levels that any fold refuses.
    shift : see `decision.decide`.
    """

    draws_per_fold: int
    point: Array
    genes: dict[str, Array | None]
    pathways: dict[str, Array | None]
    intervals: dict[float, Array]
    shift: decision.ShiftDecision


def pool_folds(
    predictor: Predictor, means: Array, sizes: Array, name: str, draws: int, seed: int
) -> PooledPrediction:
    """Predict a slide with each fold model in turn, and pool the predictions.

    Every fold model has the same share of the pooled draws. Draws aren't averaged over fold
    models: a mean of draws has a narrower distribution than any single fold model.

    Parameters
    ----------
    means, sizes : (K, d) and (K,), the slide's bag.
    name : of the slide; it names the random streams.
    draws : per fold model.

    Raises
    ------
    SlideError
        A prediction isn't finite.
    """
    count = len(predictor.fold_models)
    points, pathway_stats = np.zeros(len(predictor.genes)), DrawStats(predictor.sets.shape[0])
    gene_stats = DrawStats(len(predictor.genes))
    ends: dict[float, list[Array]] = {level: [] for level in predictor.about["levels"]}
    verdicts = []
    # By index: an iterator would hold one model while the next is loaded.
    for index in progress(range(count), f"{name}: fold models"):
        member = predictor.fold_models[index]
        point, fold_stats = _predict_fold(
            predictor, member, (means, sizes), name, draws, seed, gene_stats, pathway_stats
        )
        points += point / count
        for level, (factor, floor) in predictor.factors.get(member.number, {}).items():
            if fold_stats is not None and level in ends:
                low_high = interval(point, np.maximum(fold_stats["sd"], floor), factor)
                ends[level].append(np.stack(low_high))
        if member.reference is not None:
            profile = point if fold_stats is None else fold_stats["mean"]
            verdict = member.reference.judge(means, sizes, profile)
            verdicts.append({"fold": member.number} | verdict)
        del member
    intervals = {
        level: np.mean(fold_ends, axis=0)
        for level, fold_ends in ends.items()
        if len(fold_ends) == count
    }
    if gene_stats.n:
        genes, pathways = _summarise(gene_stats), _summarise(pathway_stats)
    else:
        genes = _point_summary(points)
        pathways = _point_summary(_pathway_scores(predictor, points[None].astype(np.float32))[0])
    shift = decision.decide(verdicts, predictor.about["alpha"])
    return PooledPrediction(gene_stats.n // count, points, genes, pathways, intervals, shift)


def _summarise(stats: DrawStats) -> dict[str, Array | None]:
    result = stats.result()
    row = {name: index for index, name in enumerate(QUANTILES)}
    quantiles = {name: result["quantiles"][row[name]] for name in QUANTILE_COLUMNS}
    return {"mean": result["mean"], "sd": result["sd"] if stats.n > 1 else None} | quantiles


def _point_summary(values: Array) -> dict[str, Array | None]:
    return {"mean": values, "sd": None} | dict.fromkeys(QUANTILE_COLUMNS)


@torch.inference_mode()
def _predict_fold(
    predictor: Predictor,
    member: FoldModel,
    bag: tuple[Array, Array],
    name: str,
    draws: int,
    seed: int,
    gene_stats: DrawStats,
    pathway_stats: DrawStats,
) -> tuple[Array, dict[str, Array] | None]:
    """Return a fold model's point (G,) and the statistics of its draws; add the draws to both."""
    device, model = predictor.device, member.model
    means, sizes = (torch.from_numpy(array[None]).to(device) for array in bag)
    if not isinstance(model, RNAFM):
        point = model.restore(model(means, sizes))[0]
        return _to_finite_numpy(point, member, name).astype(np.float64), None
    settings = predictor.about["sample"]
    one_step.check(member.meta, settings)
    memory_mb = settings["memory_mb"]
    if device.type == "cpu":
        # Statistics of the pool and of this fold's draws.
        memory_mb -= 2 * model.pathways.n_genes * BYTES_PER_GENE // 2**20
    limit = draw.rows_per_chunk(model, memory_mb, device)
    image = model.encode_image(means, sizes)
    width, fold_stats = model.noise_width, DrawStats(model.pathways.n_genes)

    def white(rows: int, kind: str, first: int = 0) -> Tensor:
        return draw.noise(seed, member.number, name, rows, width, kind, first).to(device)

    step = min(DRAWS_PER_CHUNK, limit)
    chunks = [(first, min(step, draws - first)) for first in range(0, draws, step)]
    label = f"{name}, fold {member.number}: draws"
    for first, count in progress(chunks, label) if len(chunks) >= PROGRESS_CHUNKS else chunks:
        z = draw.draw(model, image, white(count, "draws", first)[None], settings, limit)[0]
        values = _to_finite_numpy(model.restore(z), member, name)
        scores = _pathway_scores(predictor, values)
        for stats, added in ((fold_stats, values), (gene_stats, values), (pathway_stats, scores)):
            stats.add(added)
    point, _ = draw.point(model, image, white(settings["mean_pairs"], "mean"), limit)
    result = fold_stats.result() if draws else {}
    return _to_finite_numpy(point, member, name).astype(np.float64), result or None


def _pathway_scores(predictor: Predictor, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return pathway scores (m, P) of draws (m, G); a pathway that can't be scored is NaN."""
    scores = np.asarray(predictor.method.score(values.T), dtype=np.float32).T
    return np.where(predictor.method.scorable, scores, np.float32("nan"))


def _to_finite_numpy(values: Tensor, member: FoldModel, name: str) -> NDArray[np.float32]:
    if not bool(values.isfinite().all()):
        cause = f"the prediction of fold {member.number} isn't finite"
        raise SlideError(name, cause, "check the slide's features")
    return values.float().cpu().numpy()
