"""What the numbers say, in sentences: generated from the tables and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from slide2rna.summary import UNCLAIMED

WORDS = {
    "constant": "predicting the train mean",
    "color-ridge": "a ridge on six colour numbers",
    "ridge": "a ridge on the bag's mean",
    "site-mean": "the mean of the patient's site, which ignores the image",
    "permuted": "a ridge trained on permuted profiles",
}
# A 90 % interval that covers less or more is called too narrow or too wide.
TOLERANCE = 0.05
LABELS = {"good": "better", "bad": "worse", "open": "unclear"}


@dataclass(frozen=True)
class Sentence:
    """A statement with a word that sums it up; `tone` is good, bad or open."""

    text: str
    tone: str
    label: str


def pick(table: pl.DataFrame, **values: object) -> dict | None:
    """The row of a table with these values, if there is one."""
    rows = table.filter([pl.col(key) == value for key, value in values.items()])
    return rows.row(0, named=True) if rows.height else None


def headline_set(gene_sets: list[str]) -> str | None:
    """T100, or the nearest larger set that is shown, or the largest there is."""
    sizes = sorted(int(name[1:]) for name in gene_sets if name.startswith("T"))
    if not sizes:
        return None
    return f"T{next((size for size in sizes if size >= 100), sizes[-1])}"


def named(gene_set: str) -> str:
    return "all genes" if gene_set == "all" else gene_set


def sentences(summary: pl.DataFrame, calibration: pl.DataFrame, model: str) -> list[Sentence]:
    """The verdict: accuracy, each null by the paired interval, CRPS, and calibration."""
    sets = summary["gene_set"].unique(maintain_order=True).to_list()
    shown = [name for name in ("all", headline_set(sets)) if name is not None]
    out = []
    for gene_set in shown:
        score = pick(summary, model=model, gene_set=gene_set, metric="pcc")
        floor = pick(summary, model=model, gene_set=gene_set, metric="pcc_floor")
        if score is None or score["value"] is None or floor is None:
            continue
        clear = score["low"] > floor["high"]
        genes = f"{score['n_genes']:,} genes"
        out.append(
            Sentence(
                f"Mean correlation over {named(gene_set)} ({genes}, {score['n_samples']} samples): "
                f"{_span(score)}; permuted profiles reach {floor['high']:.3f} in 5 % of cases.",
                "good" if clear else "bad",
                "signal" if clear else "no signal",
            )
        )
    for null, words in WORDS.items():
        out += _against(summary, model, null, words, shown)
    out += _crps(summary, model)
    score = pick(summary, model=model, gene_set="all", metric="pcc")
    claimed = score is None or UNCLAIMED not in (score["note"] or "")
    return out + _calibrated(calibration, claimed)


def _against(
    summary: pl.DataFrame, model: str, null: str, words: str, shown: list[str]
) -> list[Sentence]:
    parts, tones = [], []
    # The constant has no correlation; its error is what a model must lower.
    metric, unit = ("rmse", "RMSE") if null == "constant" else ("pcc", "PCC")
    for gene_set in shown:
        row = pick(summary, model=model, gene_set=gene_set, metric=f"{metric}_minus:{null}")
        if row is None or row["value"] is None:
            continue
        sign = -1 if metric == "rmse" else 1
        low, high = sorted((sign * row["low"], sign * row["high"]))
        tones.append("good" if low > 0 else "bad" if high < 0 else "open")
        what = {"good": "better", "bad": "worse", "open": "no clear difference"}[tones[-1]]
        parts.append(f"{what} on {named(gene_set)} ({unit} difference {_span(row, signed=True)})")
    if not parts:
        reason = pick(summary, model=null, metric="absent")
        if reason is None:
            return []
        return [Sentence(f"Against {words}: not available ({reason['note']}).", "open", "absent")]
    tone = tones[0] if len(set(tones)) == 1 else "open"
    return [Sentence(f"Against {words}: {'; '.join(parts)}.", tone, LABELS[tone])]


def _crps(summary: pl.DataFrame, model: str) -> list[Sentence]:
    row = pick(summary, model=model, gene_set="all", metric="crps_minus:constant")
    base = pick(summary, model="constant", gene_set="all", metric="crps")
    if row is None or base is None or not base["value"]:
        return []
    gain = -row["value"] / base["value"]
    tone = "good" if row["high"] < 0 else "bad" if row["low"] > 0 else "open"
    word = "lower" if gain >= 0 else "higher"
    return [
        Sentence(
            f"As a distribution: CRPS {percent(abs(gain))} {word} than that of the train profiles "
            f"(difference {_span(row, signed=True)}).",
            tone,
            LABELS[tone],
        )
    ]


def _calibrated(calibration: pl.DataFrame, claimed: bool) -> list[Sentence]:
    row = pick(
        calibration, gene_set="all", quantity="coverage", within="pooled", kind="draws", nominal=0.9
    )
    if row is None:
        return [Sentence("Calibration: too few draws for a 90 % interval.", "open", "absent")]
    covered = row["covered"]
    off = covered - 0.9
    word = "calibrated"
    if abs(off) > TOLERANCE:
        word = "too narrow" if off < 0 else "too wide"
    text = (
        f"The 90 % intervals hold {percent(covered)} of the measured values "
        f"({percent(row['low'])} to {percent(row['high'])})."
    )
    if not claimed:
        return [Sentence(f"{text} The draws are guided: {UNCLAIMED}.", "open", "not claimed")]
    return [Sentence(text, "good" if abs(off) <= TOLERANCE else "bad", word)]


def _span(row: dict, signed: bool = False) -> str:
    form = "+.3f" if signed else ".3f"
    text = f"{row['value']:{form}} [{row['low']:{form}}, {row['high']:{form}}]"
    return text.replace("-", "−")


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
