"""The fold models of a run on one slide: points averaged, draws pooled, interval ends averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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

SHOWN = ("q05", "q50", "q95")
# With fewer, the progress over fold models is enough.
SHOWN_CHUNKS = 4


@dataclass(frozen=True)
class PooledPrediction:
    """What the fold models together say of a slide.

    Attributes
    ----------
    each : draws per fold model; 0 for networks that give points alone.
    point : (G,) mean of the fold models' points.
    genes, pathways : mean, sd, q05, q50, q95 (G,) and (P,) of all draws together; of networks
        without draws the mean is the point, and the others are None.
    intervals : by level, the ends (2, G); levels that any fold refuses are left out.
    shift : see `judged.together`.
    """

    each: int
    point: Array
    genes: dict[str, Array | None]
    pathways: dict[str, Array | None]
    intervals: dict[float, Array]
    shift: dict[str, Any]


def pool_folds(
    predictor: Predictor, means: Array, sizes: Array, name: str, draws: int, seed: int
) -> PooledPrediction:
    """Ask one fold model after the other.

    Every fold model has the same share of the pooled draws. They aren't averaged draw by draw: a
    mean of draws is narrower than any of the laws that they come from.

    Parameters
    ----------
    means, sizes : (K, d) and (K,), the slide's bag.
    name : of the slide; names the streams of noise.
    draws : per fold model.

    Raises
    ------
    SlideError
        A prediction isn't finite.
    """
    count = len(predictor.members)
    points, scores = np.zeros(len(predictor.genes)), DrawStats(predictor.sets.shape[0])
    drawn = DrawStats(len(predictor.genes))
    ends: dict[float, list[Array]] = {level: [] for level in predictor.about["levels"]}
    verdicts = []
    # By place: an iterator would hold one while the next is read.
    for place in progress(range(count), f"{name}: fold models"):
        member = predictor.members[place]
        point, own = _ask(predictor, member, (means, sizes), name, draws, seed, drawn, scores)
        points += point / count
        for level, (factor, floor) in predictor.factors.get(member.number, {}).items():
            if own is not None and level in ends:
                low_high = interval(point, np.maximum(own["sd"], floor), factor)
                ends[level].append(np.stack(low_high))
        if member.familiar is not None:
            profile = point if own is None else own["mean"]
            judgement = member.familiar.judge(means, sizes, profile)
            verdicts.append({"fold": member.number} | judgement)
        del member
    intervals = {level: np.mean(of, axis=0) for level, of in ends.items() if len(of) == count}
    if drawn.n:
        genes, pathways = _summary(drawn), _summary(scores)
    else:
        genes = _alone(points)
        pathways = _alone(_scores(predictor, points[None].astype(np.float32))[0])
    shift = decision.decide(verdicts, predictor.about["alpha"])
    return PooledPrediction(drawn.n // count, points, genes, pathways, intervals, shift)


def _summary(stats: DrawStats) -> dict[str, Array | None]:
    found = stats.result()
    place = {name: index for index, name in enumerate(QUANTILES)}
    quantiles = {name: found["quantiles"][place[name]] for name in SHOWN}
    return {"mean": found["mean"], "sd": found["sd"] if stats.n > 1 else None} | quantiles


def _alone(values: Array) -> dict[str, Array | None]:
    return {"mean": values, "sd": None} | dict.fromkeys(SHOWN)


@torch.inference_mode()
def _ask(
    predictor: Predictor,
    member: FoldModel,
    bag: tuple[Array, Array],
    name: str,
    draws: int,
    seed: int,
    drawn: DrawStats,
    scores: DrawStats,
) -> tuple[Array, dict[str, Array] | None]:
    """A fold model's point (G,), and mean and sd of its draws, which are added to the pools."""
    device, model = predictor.device, member.model
    means, sizes = (torch.from_numpy(array[None]).to(device) for array in bag)
    if not isinstance(model, RNAFM):
        point = model.restore(model(means, sizes))[0]
        return _finite(point, member, name).astype(np.float64), None
    settings = predictor.about["sample"]
    one_step.check(member.meta, settings)
    memory_mb = settings["memory_mb"]
    if device.type == "cpu":
        # The pool's statistics and those of this fold's draws.
        memory_mb -= 2 * model.pathways.n_genes * BYTES_PER_GENE // 2**20
    limit = draw.rows_per_chunk(model, memory_mb, device)
    image = model.encode_image(means, sizes)
    width, own = model.noise_width, DrawStats(model.pathways.n_genes)

    def white(rows: int, kind: str, first: int = 0) -> Tensor:
        return draw.noise(seed, member.number, name, rows, width, kind, first).to(device)

    step = min(DRAWS_PER_CHUNK, limit)
    chunks = [(first, min(step, draws - first)) for first in range(0, draws, step)]
    label = f"{name}, fold {member.number}: draws"
    for first, count in progress(chunks, label) if len(chunks) >= SHOWN_CHUNKS else chunks:
        z = draw.draw(model, image, white(count, "draws", first)[None], settings, limit)[0]
        values = _finite(model.restore(z), member, name)
        for stats, added in ((own, values), (drawn, values), (scores, _scores(predictor, values))):
            stats.add(added)
    point, _ = draw.point(model, image, white(settings["mean_pairs"], "mean"), limit)
    found = own.result() if draws else {}
    return _finite(point, member, name).astype(np.float64), found or None


def _scores(predictor: Predictor, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pathway scores (m, P) of draws (m, G); a pathway that can't be scored is NaN."""
    found = np.asarray(predictor.method.score(values.T), dtype=np.float32).T
    return np.where(predictor.method.known, found, np.float32("nan"))


def _finite(values: Tensor, member: FoldModel, name: str) -> NDArray[np.float32]:
    if not bool(values.isfinite().all()):
        cause = f"the prediction of fold {member.number} isn't finite"
        raise SlideError(name, cause, "check the slide's features")
    return values.float().cpu().numpy()
