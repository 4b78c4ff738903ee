"""Whether a slide is like the training slides, by all fold models together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

CAL, TRAIN, NOTHING = "cal", "train", "nothing"
UNLIKE = "This slide is unlike the training slides"
ALIKE = "Nothing says that this slide is unlike the training slides"
THEN = "don't rely on the prediction"
KINDS = ("bag_p", "bag_p_train", "expression_p")


def combine_p(values: Sequence[float | None]) -> float | None:
    """One p-value of several that may depend on each other in any way: twice their mean.

    Vovk and Wang 2020, doi:10.1093/biomet/asaa027. None if one isn't known.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return min(1.0, 2 * float(np.mean(known)))


def decide(rows: Sequence[dict[str, Any]], alpha: float) -> dict[str, Any]:
    """The fold models' verdicts as one.

    Calibration patients decide where they can: where a slide farther away than all of them would
    get a combined p of at most alpha. Otherwise the train patients' distances to each other do, by
    majority: the slide is unlike training if in more than half of the folds p is at most alpha.
    That is a false alarm at most twice as often as alpha however the folds depend on each other
    (Rueger 1978; Vovk and Wang 2020), as far as a train patient's distance to the others is like a
    new patient's to all of them.

    Parameters
    ----------
    rows : a dict per fold: fold, and what `Familiar.judge` said.
    alpha : a p-value up to here counts as shifted.

    Returns
    -------
    dict
        shifted (True, False, or None if it can't be told), judged_by (cal, train or nothing),
        alpha; bag_p, bag_p_train, expression_p (combined) and the share of folds at most alpha of
        each (bag_share, bag_train_share, expression_share); bag_distance and train_distance (of the
        slide, and the train patients' median, both averaged over folds); n_cal and n_train (of the
        smallest fold); words (one or two sentences); folds (a dict per fold).
    """
    found: dict[str, Any] = {"alpha": alpha, "folds": list(rows)}
    for kind in KINDS:
        values = [row[kind] for row in rows]
        known = [value for value in values if value is not None]
        share = float(np.mean([value <= alpha for value in known])) if known else None
        found |= {kind: combine_p(values), _share(kind): share}
    for name in ("n_cal", "n_train"):
        found[name] = min((row[name] for row in rows), default=0)
    if rows:
        found["bag_distance"] = float(np.mean([row["bag_distance"] for row in rows]))
        middles = [row["train_distance"] for row in rows if row["n_train"]]
        found["train_distance"] = float(np.mean(middles)) if middles else None
    else:
        found |= {"bag_distance": None, "train_distance": None}
    return found | _decide(found, alpha)


def _share(kind: str) -> str:
    return kind.replace("_p", "", 1) + "_share"


def _smallest(rows: Sequence[dict[str, Any]], count: str) -> float:
    """The least combined p that so many patients can give."""
    return combine_p([1 / (row[count] + 1) for row in rows]) or 1.0


def _decide(found: dict[str, Any], alpha: float) -> dict[str, Any]:
    rows = found["folds"]
    if rows and _smallest(rows, "n_cal") <= alpha and found["bag_p"] is not None:
        expression = found["expression_p"]
        far = [found["bag_p"] <= alpha, expression is not None and expression <= alpha]
        return {"judged_by": CAL, "shifted": any(far), "words": _by_cal(found, far)}
    if rows and all(1 / (row["n_train"] + 1) <= alpha for row in rows):
        far_away = found["bag_train_share"] > 0.5
        return {"judged_by": TRAIN, "shifted": far_away, "words": _by_train(found, far_away)}
    words = "Whether this slide is like the training slides can't be told"
    why = f": {found['n_cal']} calibration and {found['n_train']} training patients are too few."
    unknown = ": the model came without its training slides' distances."
    return {"judged_by": NOTHING, "shifted": None, "words": words + (why if rows else unknown)}


def _by_cal(found: dict[str, Any], far: Sequence[bool]) -> str:
    p = f"p = {found['bag_p']:.2g} for its tiles"
    if found["expression_p"] is not None:
        p += f", {found['expression_p']:.2g} for its predicted profile"
    p += f"; {found['n_cal']} or more calibration patients in each of {len(found['folds'])} folds"
    if not any(far):
        return f"{ALIKE} ({p})."
    what = " and ".join(
        name for name, is_far in zip(("tiles", "predicted profile"), far, strict=True) if is_far
    )
    return f"{UNLIKE} in its {what} ({p}): {THEN}."


def _by_train(found: dict[str, Any], far: bool) -> str:
    count = round(found["bag_train_share"] * len(found["folds"]))
    ratio = found["bag_distance"] / max(found["train_distance"], 1e-12)
    told = (
        f"its tiles lie {ratio:.1f} times as far from the training tiles as those of the median "
        f"training patient, farther than at least {1 - found['alpha']:.0%} of them in {count} "
        f"of {len(found['folds'])} folds; {found['n_cal']} calibration patients are too few to say"
    )
    if far:
        return f"{UNLIKE} ({told}): {THEN}."
    return f"{ALIKE} ({told})."
