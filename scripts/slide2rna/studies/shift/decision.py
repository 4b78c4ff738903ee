"""Out-of-distribution decision on a slide, combined from all fold models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np

from slide2rna.studies.shift.reference import FoldShift

CAL, TRAIN, UNDECIDED = "cal", "train", "nothing"
UNLIKE = "This slide is unlike the training slides"
ALIKE = "No sign that this slide differs from the training slides"
ADVICE = "don't rely on the prediction"
KINDS: tuple[Literal["bag_p", "bag_p_train", "expression_p"], ...] = (
    "bag_p",
    "bag_p_train",
    "expression_p",
)


class CombinedShift(TypedDict):
    """Distances and p-values of a slide over all folds."""

    alpha: float
    folds: list[FoldShift]
    bag_p: float | None
    bag_share: float | None
    bag_p_train: float | None
    bag_train_share: float | None
    expression_p: float | None
    expression_share: float | None
    n_cal: int
    n_train: int
    bag_distance: float | None
    train_distance: float | None


class ShiftVerdict(TypedDict):
    """The verdict on a slide; None if too few patients, or no distances, allow none."""

    judged_by: str
    shifted: bool | None
    words: str


class ShiftDecision(CombinedShift, ShiftVerdict):
    """Result of `decide`."""


def combine_p(values: Sequence[float | None]) -> float | None:
    """Combine p-values that may depend on each other in any way: twice their mean.

    Vovk and Wang 2020, doi:10.1093/biomet/asaa027. None if a value is missing.
    """
    present = [value for value in values if value is not None]
    if not present or len(present) < len(values):
        return None
    return min(1.0, 2 * float(np.mean(present)))


def decide(rows: Sequence[FoldShift], alpha: float) -> ShiftDecision:
    """Combine the fold models' judgements into one decision.

    Calibration patients decide where they can: where a slide farther away than all of them would
    get a combined p of at most alpha. Otherwise the train patients' distances to each other decide
    by majority: the slide is unlike training if p is at most alpha in more than half of the folds.
    Its false-alarm rate is at most twice alpha for any dependence between the folds (Rueger 1978;
    Vovk and Wang 2020). This assumes that a train patient's distance to the others is distributed
    like a new patient's distance to all of them.

    Parameters
    ----------
    rows : a dict per fold, from `TrainingReference.judge`, with the fold's number.
    alpha : a slide with a p-value of at most alpha counts as shifted.

    Returns
    -------
    dict
        shifted (True, False, or None if undecided), judged_by (cal, train or nothing), alpha;
        bag_p, bag_p_train, expression_p (combined) and for each the share of folds at most alpha
        (bag_share, bag_train_share, expression_share); bag_distance and train_distance (of the
        slide, and the train patients' median, both averaged over folds); n_cal and n_train (of the
        smallest fold); words (one or two sentences); folds (a dict per fold).
    """
    by_kind = {kind: [row[kind] for row in rows] for kind in KINDS}
    p = {kind: combine_p(values) for kind, values in by_kind.items()}
    share = {kind: _share_at_most(values, alpha) for kind, values in by_kind.items()}
    distances = [row["train_distance"] for row in rows]
    medians = [distance for distance in distances if distance is not None]
    combined: CombinedShift = {
        "alpha": alpha,
        "folds": list(rows),
        "bag_p": p["bag_p"],
        "bag_share": share["bag_p"],
        "bag_p_train": p["bag_p_train"],
        "bag_train_share": share["bag_p_train"],
        "expression_p": p["expression_p"],
        "expression_share": share["expression_p"],
        "n_cal": min((row["n_cal"] for row in rows), default=0),
        "n_train": min((row["n_train"] for row in rows), default=0),
        "bag_distance": float(np.mean([row["bag_distance"] for row in rows])) if rows else None,
        "train_distance": float(np.mean(medians)) if medians else None,
    }
    return {**combined, **_verdict(combined, alpha)}


def _share_at_most(values: Sequence[float | None], alpha: float) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean([value <= alpha for value in present])) if present else None


def _smallest_p(counts: Sequence[int]) -> float:
    """Return the smallest combined p that folds of these patient counts can give."""
    return combine_p([1 / (count + 1) for count in counts]) or 1.0


def _verdict(combined: Mapping[str, Any], alpha: float) -> ShiftVerdict:
    rows = combined["folds"]
    smallest = _smallest_p([row["n_cal"] for row in rows])
    if rows and smallest <= alpha and combined["bag_p"] is not None:
        expression = combined["expression_p"]
        shifted = [combined["bag_p"] <= alpha, expression is not None and expression <= alpha]
        words = _cal_sentence(combined, shifted)
        return {"judged_by": CAL, "shifted": any(shifted), "words": words}
    if rows and all(1 / (row["n_train"] + 1) <= alpha for row in rows):
        is_shifted = combined["bag_train_share"] > 0.5
        words = _train_sentence(combined, is_shifted)
        return {"judged_by": TRAIN, "shifted": is_shifted, "words": words}
    words = "It is unknown whether this slide is like the training slides"
    n_cal, n_train = combined["n_cal"], combined["n_train"]
    too_few = f": {n_cal} calibration and {n_train} training patients are too few."
    no_distances = ": the model has no distances of its training slides."
    words += too_few if rows else no_distances
    return {"judged_by": UNDECIDED, "shifted": None, "words": words}


def _cal_sentence(combined: Mapping[str, Any], shifted: Sequence[bool]) -> str:
    n_cal, n_folds = combined["n_cal"], len(combined["folds"])
    p = f"p = {combined['bag_p']:.2g} for its tiles"
    if combined["expression_p"] is not None:
        p += f", {combined['expression_p']:.2g} for its predicted profile"
    p += f"; {n_cal} or more calibration patients in each of {n_folds} folds"
    if not any(shifted):
        return f"{ALIKE} ({p})."
    parts = " and ".join(
        name for name, is_far in zip(("tiles", "predicted profile"), shifted, strict=True) if is_far
    )
    return f"{UNLIKE} in its {parts} ({p}): {ADVICE}."


def _train_sentence(combined: Mapping[str, Any], is_shifted: bool) -> str:
    n_cal, n_folds = combined["n_cal"], len(combined["folds"])
    count = round(combined["bag_train_share"] * n_folds)
    ratio = combined["bag_distance"] / max(combined["train_distance"], 1e-12)
    reason = (
        f"its tiles lie {ratio:.1f} times as far from the training tiles as those of the median "
        f"training patient, farther than at least {1 - combined['alpha']:.0%} of them in {count} "
        f"of {n_folds} folds; {n_cal} calibration patients are too few to say"
    )
    if is_shifted:
        return f"{UNLIKE} ({reason}): {ADVICE}."
    return f"{ALIKE} ({reason})."
