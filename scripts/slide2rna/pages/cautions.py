"""Cautions of the summary's column `note`, as sentences for the pages."""

from __future__ import annotations

import re

from slide2rna.evaluation.scoring.comparison import MIN_PATIENTS

# Note in the table, and its sentence; see `summary.caution_note`.
SENTENCES = {
    r"too few for per-gene claims \((\d+) in the smallest test fold\)": (
        r"There are too few patients to judge single genes: the smallest test fold has \1 "
        f"(at least {MIN_PATIENTS} are needed)"
    ),
    r"folds of three or fewer are left out of correlations": (
        "Correlations leave out test folds of three or fewer"
    ),
    r"several samples of a patient: intervals resample patients(.*), no per-gene test": (
        r"Some patients have several samples: intervals resample patients\1, and single genes are "
        "not tested"
    ),
    r"drawn with guidance (\S+), not from p\(x given y\): no coverage is claimed": (
        r"The draws use guidance \1, so they don't follow p(x given y), and no coverage is claimed"
    ),
    r"genes ranked by as few as (\d+) val samples(.*)": (
        r"The top genes T-k were chosen on as few as \1 validation samples\2, so that choice is "
        "unreliable"
    ),
}


def caution(note: str) -> str:
    """Return a note as a sentence without its full stop; an unknown note with a capital."""
    for pattern, sentence in SENTENCES.items():
        if match := re.fullmatch(pattern, note):
            return match.expand(sentence)
    return note[:1].upper() + note[1:]
