"""Samplers: which a run has, their draws, and what the table says of them."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import synthetic_cohort
import zarr
from slide2rna.core import config
from slide2rna.core.errors import ConfigError
from slide2rna.pages.html import render
from slide2rna.plan import runs
from slide2rna.report.figures import samplers as samplers_figure
from slide2rna.report.figures.samplers import quality
from slide2rna.report.sections.samplers import samplers
from slide2rna.studies.samplers import sampler_table
from slide2rna.studies.samplers.sampler_table import ScoredSampler
from synthetic_models import add_model
from test_ablations import one as found_in
from test_evaluate import SETTINGS

VARIANTS = [
    ScoredSampler("flow", "exponential-20", "exponential", 20, 1.0),
    ScoredSampler("flow.same", "exponential-4", "exponential", 4, 1.0),
    ScoredSampler("flow.narrow", "euler-5", "euler", 5, 1.0),
    ScoredSampler("flow.noisy", "one-step", "exponential", 1, 1.0),
]
SECONDS = {"flow": 4.0, "flow.same": 0.8, "flow.narrow": 1.0, "flow.noisy": 0.2}


def plan(first: str = "flow", **own: Any) -> runs.PlannedRun:
    # The run's own guidance isn't that of its samplers, or the reference would have another name.
    sampling = {"steps": 8, "mean_pairs": 2, "guidance": 2, "keep": "summary"}
    settings = {"models": [first], "samplers": own, "sample": sampling}
    full = config.validate({"cohorts": {"mine": {"source": "demo", "settings": settings}}})
    return runs.model_runs(full, "mine")[0]


def test_samplers_of_a_run() -> None:
    listed = [
        {"solver": "euler", "steps": 5},
        {"solver": "exponential", "steps": 3, "guidance": 2.5},
        {"solver": "heun", "steps": 4},
    ]
    found = runs.samplers(plan(variants=listed, reference="heun-4", draws=19))
    names = [sampler.name for sampler in found]
    assert names == ["heun-4", "euler-5", "exponential-3-guidance-2.5", "one-step"]
    assert [sampler.student for sampler in found] == [False, False, False, True]
    for sampler in found:
        assert sampler.settings["draws"] == 19
        assert sampler.settings["mean_pairs"] == 2
        assert sampler.settings["keep"] == "draws"
    own = found[-1].settings
    assert [own[key] for key in ("solver", "steps", "guidance")] == ["exponential", 1, 1]
    assert [sampler.settings["guidance"] for sampler in found] == [1, 1, 2.5, 1]


def test_samplers_by_default() -> None:
    found = runs.samplers(plan())
    assert found[0].name == "exponential-20"
    solvers = {"exponential", "euler", "heun", "midpoint"}
    assert {sampler.settings["solver"] for sampler in found} == solvers
    assert runs.samplers(plan("abmil")) == []


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"reference": "euler-7"}, "samplers.reference: .*euler-7.*exponential-20"),
        ({"variants": [{"solver": "euler", "steps": 5}] * 2}, "euler-5"),
        ({"variants": [{"solver": "exponential", "steps": 20}], "one_step": False}, "samplers"),
    ],
)
def test_samplers_that_cannot_be_compared(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        runs.samplers(plan(**own))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("cohort"), patients=75, genes=120)


@pytest.fixture(scope="module")
def others(made: synthetic_cohort.Synthetic) -> list[Path]:
    paths = [
        *add_model(made, "flow.same", 0.0, draws=True),
        *add_model(made, "flow.narrow", 0.0, draws=True),
        *add_model(made, "flow.noisy", 0.3, draws=True),
    ]
    for path in [*made.inputs.draws, *paths]:
        store = zarr.open_group(path, mode="r+")
        label = str(store.attrs["model"])
        fold = int(str(store.attrs["fold"]))
        draws = store["draws"][:]
        store.attrs["solving_seconds"] = SECONDS[label] + 0.01 * fold
        if label == "flow.narrow":
            mean = draws.astype(np.float32).mean(axis=1, keepdims=True)
            store["draws"][:] = (mean + 0.5 * (draws - mean)).astype(np.float16)
    return paths


@pytest.fixture(scope="module")
def table(
    made: synthetic_cohort.Synthetic, others: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> pl.DataFrame:
    out = tmp_path_factory.mktemp("samplers")
    settings = config.defaults("evaluate", **SETTINGS)
    table = sampler_table.write_samplers(
        replace(made.inputs, others=others), VARIANTS, out, settings, 1, 1
    )
    samplers_figure.write(table, out)
    assert (out / "samplers.png").stat().st_size > 1000
    assert (out / "samplers.svg").is_file()
    return pl.read_parquet(out / "samplers.parquet")


def one(table: pl.DataFrame, sampler: str, metric: str, gene_set: str = "all") -> dict[str, Any]:
    return found_in(table.with_columns(variant=pl.col("sampler")), sampler, metric, gene_set)


def test_a_sampler_equal_to_the_reference_counts(table: pl.DataFrame) -> None:
    same = one(table, "exponential-4", "crps_ratio")
    assert [same[key] for key in ("value", "low", "high")] == pytest.approx([1, 1, 1])
    assert one(table, "exponential-4", "counts")["value"] == 1
    for metric in ("covered50", "covered80", "covered90", "pcc_draw_mean"):
        row = one(table, "exponential-4", f"{metric}_minus:reference")
        assert [row[key] for key in ("value", "low", "high")] == [0, 0, 0]


def test_draws_that_are_too_narrow_do_not(table: pl.DataFrame) -> None:
    narrow = one(table, "euler-5", "counts")
    assert narrow["value"] == 0
    assert "cover 3" in narrow["note"]
    assert "points less" in narrow["note"]
    off = one(table, "euler-5", "covered90_minus:reference")
    # Half as wide: a central 90 % interval of a normal law then holds 58.9 %.
    assert off["value"] == pytest.approx(0.589 - 0.9, abs=0.03)
    assert off["high"] < 0
    widths = [one(table, name, "width90")["value"] for name in ("euler-5", "exponential-20")]
    assert widths[0] == pytest.approx(widths[1] / 2, rel=0.01)
    # The mean of the draws is the same, so is its correlation.
    row = one(table, "euler-5", "pcc_draw_mean_minus:reference")
    assert row["value"] == pytest.approx(0, abs=1e-3)


def test_crps_is_divided_by_the_references(table: pl.DataFrame) -> None:
    own, base = (one(table, name, "crps")["value"] for name in ("one-step", "exponential-20"))
    ratio = one(table, "one-step", "crps_ratio")
    assert ratio["value"] == pytest.approx(own / base, rel=1e-5)
    assert 1.02 < ratio["low"] < ratio["value"] < ratio["high"]
    lost = one(table, "one-step", "counts")
    assert lost["value"] == 0
    assert f"CRPS {100 * (ratio['value'] - 1):.1f} % higher" in lost["note"]
    null = one(table, sampler_table.CLIMATOLOGY, "crps_ratio")
    assert null["value"] > ratio["value"]


def test_seconds_are_of_a_hundred_draws_with_their_range(table: pl.DataFrame) -> None:
    for variant in VARIANTS:
        row = one(table, variant.name, "seconds")
        record = [SECONDS[variant.label] + 0.01 * fold for fold in range(3)]
        assert [row[key] for key in ("low", "value", "high")] == pytest.approx(record)
    assert dict(table.select("sampler", "evaluations").unique().iter_rows())["euler-5"] == 5


def test_heun_and_midpoint_take_two_evaluations_a_step() -> None:
    assert ScoredSampler("", "heun-10", "heun", 10, 1.0).facts["evaluations"] == 20
    assert ScoredSampler("", "midpoint-10", "midpoint", 10, 1.0).facts["evaluations"] == 20


def test_the_section_tells_the_verdict_and_names_the_cheapest(table: pl.DataFrame) -> None:
    found = samplers(table)
    assert found is not None
    assert found["rows"][0]["sampler"] == "exponential-20"
    texts = [line.text for line in found["verdict"]]
    assert "exponential-4 with 4 evaluations, CRPS +0.0\u00a0%" in texts[0]
    assert "(CRPS" in texts[1]
    context = {"samplers": found, "figure": {}, "run": "r"}
    html = render("sections/samplers.html.j2", context)
    assert html.count("<tr") == 1 + len(VARIANTS) + 3
    assert "points less" in html
    assert render("sections/samplers.html.j2", context | {"samplers": None}).strip() == ""


def test_without_seconds_there_is_one_panel_less(table: pl.DataFrame) -> None:
    untimed = samplers(table.filter(pl.col("metric") != "seconds"))
    assert untimed is not None
    assert not untimed["timed"]
    assert len(quality(untimed).axes) == 3
    assert "Seconds" not in render(
        "sections/samplers.html.j2", {"samplers": untimed, "figure": {}, "run": "r"}
    )
    assert samplers(None) is None


def test_the_command_line(
    repo: Path, made: synthetic_cohort.Synthetic, others: list[Path], tmp_path: Path
) -> None:
    files = made.inputs
    given = {"bags": files.bags, "expression": files.expression, "slides": files.slides}
    given |= {"splits": files.splits, "cohort": files.cohort, "pathways": files.pathways}
    arguments = [text for name, path in given.items() for text in (f"--{name}", str(path))]
    of_same = [str(path) for path in others if "same" in str(path)]
    for name, paths in (("draws", files.draws), ("models", files.models), ("others", of_same)):
        arguments += [f"--{name}", *map(str, paths)]
    listed = [["flow", "a", "euler", 2, 1.0], ["flow.same", "b", "heun", 3, 1.0]]
    arguments += ["--samplers", json.dumps(listed), "--out", str(tmp_path)]
    settings = json.dumps(SETTINGS | {"bootstrap": 20, "permutations": 5})
    runpy.run_path(str(repo / "scripts/samplers.py"))["main"](
        [*arguments, "--settings", settings, "--threads", "1"]
    )
    found = pl.read_parquet(tmp_path / "samplers.parquet")
    assert set(found["cohort"]) == {json.loads(files.cohort.read_text())["name"]}
    assert dict(found.select("sampler", "evaluations").iter_rows())["b"] == 6
    shutil.rmtree(tmp_path)
