"""Rows of the report: order of models, verdicts in groups, matrix, steps, search, leak audit."""

from __future__ import annotations

import json

import polars as pl
import pytest
from slide2rna.evaluation.scoring import labels
from slide2rna.report.figures import comparisons
from slide2rna.report.sections import ablations, leak_audit, protocols, results, verdict

EMPTY = pl.DataFrame(schema={"gene_set": pl.String})


def score(model: str, metric: str, value: float, half: float | None = 0.01, **more) -> dict:
    ends = (None, None) if half is None else (value - half, value + half)
    row = {"protocol": "clean", "model": model, "gene_set": "all", "metric": metric}
    row |= {"value": value, "low": ends[0], "high": ends[1], "n_genes": 100, "n_samples": 40}
    return row | {"note": ""} | more


def table(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)


def against(**by_set: float) -> pl.DataFrame:
    """Scores of a main model and of `rival`, with the difference of each gene set."""
    rows = []
    for name, gap in by_set.items():
        gene_set = {"gene_set": name}
        rows += [score("flow", "pcc", 0.3, **gene_set), score("rival", "pcc", 0.3, **gene_set)]
        rows += [score("flow", "pcc_minus:rival", gap, **gene_set)]
        rows += [score("flow", "rmse_minus:rival", 0.0, **gene_set)]
    return table(*rows)


def said(summary: pl.DataFrame) -> tuple[str, str, str]:
    lines = verdict.sentences(summary, EMPTY, "flow")
    (line,) = [line for line in lines if "rival" in line.text]
    return line.label, line.tone, line.text


def test_order_is_main_networks_ridge_nulls() -> None:
    names = ["constant", "zoo", "ridge", "abmil", "permuted", "flow.no-graph", "he2rna", "flow"]
    names += ["site-mean", "flow.seed-2"]
    summary = table(*(score(name, "pcc", 0.1) for name in names))
    assert labels.ordered_models(summary, "flow") == [
        "flow", "flow.no-graph", "he2rna", "abmil", "zoo", "ridge", "site-mean", "permuted",
        "constant",
    ]  # fmt: skip
    assert labels.ordered_models(summary, "abmil")[:2] == ["abmil", "flow"]
    assert labels.model_description("flow.no-graph").endswith("; no graph")


def test_gene_sets_fall_and_the_headline_is_t100_or_the_next_larger() -> None:
    made = pl.DataFrame({"gene_set": ["T20", "all", "T1000", "T200", "all"]})
    assert labels.gene_sets(made) == ["all", "T1000", "T200", "T20"]
    assert labels.headline_set(["all", "T1000", "T200", "T20"]) == "T200"
    assert labels.headline_set(["all", "T50"]) == "T50"
    assert labels.headline_set(["all", "T50-test"]) is None
    assert labels.shown_sets(["all"]) == ["all"]


@pytest.mark.parametrize(
    ("gaps", "label", "tone"),
    [
        ({"all": -0.05, "T100": -0.05}, "worse", "bad"),
        ({"all": 0.05, "T100": 0.05}, "better", "good"),
        ({"all": 0.0, "T100": 0.001}, "unclear", "open"),
        ({"all": 0.05, "T100": 0.0}, "unclear", "open"),
        ({"all": 0.05, "T100": -0.05}, "partly worse", "bad"),
        ({"all": 0.0, "T100": -0.05}, "partly worse", "bad"),
        ({"all": 0.05, "T100": 0.05, "T20": -0.05}, "partly worse", "bad"),
    ],
)
def test_any_loss_beyond_the_interval_is_said(gaps: dict, label: str, tone: str) -> None:
    found = said(against(**gaps))
    assert found[:2] == (label, tone)
    if tone == "bad":
        assert found[2].startswith(("Worse", "Partly worse"))
        assert "−0.050 [−0.060, −0.040]" in found[2] or " T20" in found[2]


def test_a_loss_in_rmse_alone_is_said() -> None:
    lost = score("flow", "rmse_minus:rival", 0.05)
    summary = against(all=0.05).filter(pl.col("metric") != "rmse_minus:rival")
    label, tone, text = said(pl.concat([summary, table(lost)]))
    assert (label, tone) == ("partly worse", "bad")
    assert "RMSE +0.050 [+0.040, +0.060] on all genes: worse" in text


def test_many_models_make_one_sentence_per_outcome() -> None:
    rows = [score("flow", "pcc", 0.3)]
    gaps = {"he2rna": 0.1, "abmil": -0.1, "sequoia": 0.0, "ridge": -0.2, "permuted": 0.3}
    for name, gap in gaps.items():
        rows += [score(name, "pcc", 0.3 - gap), score("flow", f"pcc_minus:{name}", gap)]
    lines = verdict.sentences(table(*rows), EMPTY, "flow")
    assert [line.label for line in lines] == ["worse", "unclear", "better", "absent"]
    for rival in (
        "abmil (PCC −0.100 [−0.110, −0.090] on all genes)",
        "ridge (PCC −0.200 [−0.210, −0.190] on all genes)",
    ):
        assert rival in lines[0].text
    assert "he2rna (PCC +0.100) and permuted (PCC +0.300)" in lines[2].text


def test_losing_as_a_distribution_is_said() -> None:
    rows = [score("flow", "pcc", 0.3), score("rival", "pcc", 0.3), score("rival", "crps", 0.5)]
    rows += [score("flow", "pcc_floor", 0.0)]
    lines = verdict.sentences(table(*rows, score("flow", "crps_minus:rival", 0.05)), EMPTY, "flow")
    assert [line.label for line in lines] == ["worse", "signal", "absent"]
    (line,) = [line for line in lines if "CRPS" in line.text]
    assert line.label == "worse"
    assert "10.0 % higher than that of rival" in line.text
    assert "+0.050 [+0.040, +0.060]" in line.text


def test_tone_knows_which_direction_is_better() -> None:
    assert verdict.tone({"low": 0.1, "high": 0.2}) == "good"
    assert verdict.tone({"low": 0.1, "high": 0.2}, lower_is_better=True) == "bad"
    assert verdict.tone({"low": -0.2, "high": -0.1}, lower_is_better=True) == "good"
    assert verdict.tone({"low": -0.1, "high": 0.2}) == "open"
    assert verdict.tone({"low": 1e-9, "high": 2e-9}) == "open"
    assert verdict.tone({"low": -2e-9, "high": -1e-9}) == "open"
    assert verdict.tone({"low": None, "high": None}) is None


def test_matrix_is_antisymmetric_and_marks_what_is_clear() -> None:
    value = {"flow": 0.3, "abmil": 0.35, "ridge": 0.305}
    rows = [score(name, "pcc", at) for name, at in value.items()]
    pairs = [("flow", "abmil"), ("flow", "ridge"), ("abmil", "ridge"), ("ridge", "abmil")]
    rows += [score(a, f"pcc_minus:{b}", value[a] - value[b]) for a, b in pairs]
    found = results.matrix(table(*rows), "flow")
    assert found is not None
    assert found["names"] == ["flow", "abmil", "ridge"]
    cells = [row["cells"] for row in found["rows"]]
    for i in range(3):
        assert cells[i][i] is None
        for j in range(i):
            assert cells[i][j]["value"] == pytest.approx(-cells[j][i]["value"])
            assert cells[i][j]["low"] == pytest.approx(-cells[j][i]["high"])
    assert [cell and cell["tone"] for cell in cells[0]] == [None, "bad", "open"]
    assert cells[1][0]["tone"] == "good"
    few = [row for row in rows if row["model"] == "flow" or row["metric"] == "pcc"]
    assert results.matrix(table(*few), "flow") is None


def test_genes_better_has_a_column_per_null() -> None:
    rows = [score(name, "pcc", 0.3) for name in ("flow", "ridge", "permuted")]
    rows += [score("flow", "genes_better:permuted", 60, None, note="Steiger")]
    rows += [score("flow", "genes_better:ridge", 5, None)]
    rows += [score("ridge", "genes_better:permuted", 70, None)]
    found = results.genes_better(table(*rows), "flow")
    assert found is not None
    assert (found["columns"], found["note"]) == (["ridge", "permuted"], "Steiger")
    values = [[cell and cell["value"] for cell in row["cells"]] for row in found["rows"]]
    assert values == [[5, 60], [None, 70]]
    assert results.genes_better(table(rows[0]), "flow") is None


def test_steps_add_up() -> None:
    values = {"0-clean": 0.5, "1-pooled-slides": 0.45, "2-test-ranked": 0.7, "3-one-draw": 0.4}
    rows = [
        score("flow", f"pcc_step:{name}", at, None, protocol="published", gene_set=s)
        for name, at in values.items()
        for s in ("T50", "all")
    ]
    found = protocols.steps(table(*rows), "flow")
    assert [row["name"] for row in found] == ["clean", "pooled-slides", "test-ranked", "one-draw"]
    assert [cell["gene_set"] for cell in found[0]["cells"]] == ["all", "T50"]
    added = [row["cells"][0]["added"] for row in found]
    assert added[0] is None
    assert added[1:] == pytest.approx([-0.05, 0.25, -0.3])
    figure = comparisons.steps(found, ["all", "T50", "T20"])
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([0.5, -0.05, 0.25, -0.3])
    assert [bar.get_x() for bar in bars] == pytest.approx([0, 0.5, 0.45, 0.7])
    assert protocols.steps(table(score("flow", "pcc", 0.1)), "flow") == []


def test_protocols_score_one_draw_where_there_is_one() -> None:
    rows = [score(name, "pcc", 0.5) for name in ("flow", "abmil", "constant")]
    more = {"protocol": "published"}
    rows += [score("flow", "pcc", 0.6, None, **more), score("abmil", "pcc", 0.55, None, **more)]
    rows += [score("flow", "pcc_one_draw", 0.4, None, **more)]
    rows += [score("flow", "nrmse", 0.07, None, **more)]
    rows += [score("constant", "nrmse", 0.09, None, **more)]
    found = protocols.side_by_side(table(*rows), "flow")
    assert found is not None
    (row,) = found["rows"]
    assert (row["published"], row["of"], row["point"]) == (0.4, "one draw", 0.6)
    assert (row["nrmse"], row["constant"], row["clean"]["value"]) == (0.07, 0.09, 0.5)
    every = {row["name"]: (row["published"], row["of"]) for row in found["every"]}
    assert every["abmil"] == (0.55, "point")
    assert protocols.side_by_side(table(*rows[:3]), "flow") is None


def test_search_sums_what_was_spent() -> None:
    rows = [
        {
            "model": "abmil", "fold": fold, "step": "network", "configuration": c,
            "epochs": 10 * (c + 1),
            "settings": json.dumps({"learning_rate": 1e-4} if c else {}),
            "best_epoch": 5 + fold, "val_loss": 1.0 - 0.1 * c, "seconds": 30.0,
            "chosen": c == (fold != 2),
        }
        for fold in range(3)
        for c in range(2)
    ]  # fmt: skip
    (found,) = results.search(pl.DataFrame(rows))
    assert (found["configurations"], found["folds"], found["epochs"]) == (2, 3, 90)
    assert found["seconds"] == 180
    assert found["best"] == "5–7"
    assert [(c["settings"], c["folds"]) for c in found["chosen"]] == [
        ("learning_rate 0.0001", 2), ("defaults", 1),
    ]  # fmt: skip
    assert found["val_loss"] == pytest.approx((0.9 + 0.9 + 1.0) / 3)
    assert results.search(None) == []


def test_leak_compares_means_and_lists_shared_patients() -> None:
    rows = []
    for pairing, value in (("clean", 0.02), ("published", 0.6)):
        keys = {"pairing": pairing, "model": "memoriser", "gene_set": "all", "note": ""}
        mean = {"value": value, "low": value - 0.1, "high": value + 0.1, "fold": None}
        rows.append(keys | mean | {"n_train": None, "n_test": None, "n_shared": None})
        shared = 7 if pairing == "published" else 0
        rows.append(keys | mean | {"fold": 0, "n_train": 30, "n_test": 10, "n_shared": shared})
    found = leak_audit.leak(pl.DataFrame(rows, infer_schema_length=None))
    assert found is not None
    pair = found["rows"][0]["cells"][0]
    assert (pair["clean"]["value"], pair["published"]["value"]) == (0.02, 0.6)
    assert pair["difference"]["value"] == pytest.approx(0.58)
    paired = rows[0] | {"pairing": "difference", "value": 0.57, "low": 0.5, "high": 0.6}
    more = [row | {"gene_set": "T50-pooled"} for row in (rows[0], rows[2])]
    made = pl.DataFrame([*rows, paired, *more], infer_schema_length=None)
    found = leak_audit.leak(made)
    assert found is not None
    assert found["sets"] == ["All genes", "T50, test patients pooled"]
    assert found["rows"][0]["cells"][0]["difference"]["low"] == 0.5
    assert found["rows"][0]["cells"][1]["difference"]["value"] == pytest.approx(0.58)
    assert [(row["pairing"], row["n_shared"]) for row in found["shared"]] == [
        ("clean", 0), ("published", 7),
    ]  # fmt: skip


def test_compared_pathways_favour_no_model() -> None:
    paths = pl.DataFrame(
        {"pathway": ["a", "b", "c"], "r": [0.9, 0.6, 0.5], "r_ridge": [0.1, 0.6, None]}
    )
    found = comparisons.compared_pathways(paths, ["ridge"], 2)
    assert found["pathway"].to_list() == ["b", "a"]


def test_aspects_need_both_and_favour_none() -> None:
    rows = [
        {"pathway": p, "name": p, "variant": v, "r": r, "r_low": r, "r_high": r, "rmse": 0.1}
        for p, v, r in (
            ("a", "base", 0.9), ("a", "go-mf", 0.1), ("b", "base", 0.6), ("b", "go-mf", 0.7),
            ("c", "base", 0.99),
        )
    ]  # fmt: skip
    found = ablations.aspects(pl.DataFrame(rows))
    assert [(row["pathway"], row["r"], row["r_mf"]) for row in found] == [
        ("b", 0.6, 0.7), ("a", 0.9, 0.1),
    ]  # fmt: skip
    assert ablations.aspects(pl.DataFrame(rows).filter(pl.col("variant") == "base")) == []


def test_the_verdict_says_where_training_found_nothing() -> None:
    def model(skip: str, best: int) -> dict[str, object]:
        return {"settings": {"model": {"skip": skip}}, "best_epoch": best}

    (line,) = verdict.network_gain([model("ridge", 0), model("ridge", 7)])
    assert " 1 of 2 folds" in line.text
    (line,) = verdict.network_gain([model("ridge", 0)])
    assert (line.tone, line.label) == ("bad", "network left out")
    assert verdict.network_gain([model("ridge", 7)])[0].tone == "good"
    assert not verdict.network_gain([model("gaussian", 0), {"settings": {"model": {"width": 3}}}])
