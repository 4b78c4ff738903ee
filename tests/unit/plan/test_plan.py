"""Plans of configurations as closed facts: the runs of a cohort and its targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plans import ALONE, COLOR, FILES, SHEET, at, many, plan
from slide2rna.plan.arguments import Arguments
from slide2rna.plan.inputs import Inputs
from slide2rna.plan.parameters import Parameters
from slide2rna.plan.plan import Plan
from slide2rna.plan.targets import Targets


@pytest.mark.parametrize(
    ("settings", "block", "runs"),
    [
        ({}, {}, ["lite0-flow-go-bp"]),
        (
            {"models": ["abmil", "flow"], "seeds": 2},
            {},
            [
                *("lite0-abmil-go-bp", "lite0-flow-go-bp"),
                *("lite0-abmil.seed-2-go-bp", "lite0-flow.seed-2-go-bp"),
            ],
        ),
        (
            {"ablations": COLOR},
            {},
            ["lite0-flow-go-bp", "color-flow.color-go-bp"],
        ),
        # Where the slides are gone, or never were, there is one set of features.
        (
            {"ablations": COLOR},
            {"keep_slides": False},
            ["lite0-flow-go-bp"],
        ),
        (
            {
                "features": FILES,
                "pathways": {"source": "sets/own.gmt"},
                "ablations": {
                    "color": {"features": {"encoder": "color"}},
                    "go-mf": {"pathways": {"source": "go-mf"}},
                },
            },
            {},
            ["files-flow-own", "files-flow.go-mf-go-mf"],
        ),
    ],
)
def test_the_runs_of_a_cohort(settings: dict, block: dict, runs: list[str]) -> None:
    cohort = plan(settings, **block).cohorts["mine"]
    assert list(cohort.runs) == runs
    assert cohort.reported.name == runs[0]
    assert cohort.features.keys() == {run.encoder for run in cohort.runs.values()}
    assert cohort.gene_sets.keys() == {run.pathways for run in cohort.runs.values()}


def test_samplers_are_the_flows() -> None:
    samplers = plan().cohorts["mine"].samplers
    assert [sampler.name for sampler in samplers[:2]] == ["exponential-20", "exponential-8"]
    assert [sampler.student for sampler in samplers] == [False] * (len(samplers) - 1) + [True]
    assert plan({"models": ["abmil"]}).cohorts["mine"].samplers == []


def test_kinds_of_cohorts() -> None:
    made = Plan.of(
        {
            "results": "r",
            "cohorts": {
                "demo": {"source": "demo"},
                "law": {"source": "law", "settings": {"features": {"encoder": "files"}}},
                "gone": SHEET | {"keep_slides": False},
                "own": SHEET,
            },
        }
    )
    assert made.simulated == ["demo", "law"]
    assert made.kept == ["demo", "law", "own"]
    assert made.streamed == ["gone"]
    assert made.cohorts["law"].settings["features"]["path"] == "r/law/source/features"
    run = "lite0-flow-go-bp"
    assert Targets(made).stain(at("")) == [
        f"r/{name}/stain/{run}/stain.parquet" for name in ("demo", "own")
    ]
    inputs = Inputs(made)
    assert inputs.truth_mark(at("demo")) == ["r/demo/source/done.json"]
    assert inputs.truth_mark(at("law")) == []
    assert inputs.source_mark(at("law")) == ["r/law/source/done.json"]
    assert inputs.user_files(at("law")) == []
    assert inputs.source_mark(at("own")) == []
    assert inputs.user_files(at("own")) == ["a.tsv", "a.csv"]


def test_what_each_target_asks_for() -> None:
    made = many(pan=["A", "B"], ablations=ALONE, external=[{"train": "A", "test": "C"}])
    targets, run = Targets(made), "lite0-flow-go-bp"
    page = f"r/C/external/A/{run}/index.html"
    assert targets.cohort("B") == ["r/B/report/index.html", f"r/B/models/{run}/predictor.json"]
    assert targets.all == [
        *(f"r/{name}/report/index.html" for name in "ABC"),
        *(f"r/{name}/models/{run}/predictor.json" for name in "ABC"),
        page,
    ]
    assert targets.external(at("")) == [page]
    assert targets.partners == [f"r/pan/{name}/{run}/ablations.parquet" for name in "AB"]
    assert targets.ablations == [f"r/{name}/ablations/{run}/ablations.parquet" for name in "ABC"]
    assert targets.samplers == [f"r/{name}/samplers/{run}/samplers.parquet" for name in "ABC"]
    assert targets.leak_audits == [f"r/{name}/leak_audit/audit.parquet" for name in "ABC"]
    assert targets.exports == [f"r/{name}/export/{run}.h5ad" for name in "ABC"]
    none = Targets(plan({"models": ["abmil"]}))
    assert none.ablations == none.samplers == none.partners == none.external_pages == []


def test_partners_join_the_flows_that_share_their_features() -> None:
    color = {
        "ablations": COLOR,
        "models": ["flow", "abmil"],
    }
    cohorts = {"A": SHEET | {"settings": color}, "B": dict(SHEET)}
    made = many(cohorts=cohorts, pan=["A", "B"])
    inputs = Inputs(made)
    of = ("r/B/bags/lite0.safetensors", "r/B/expression.parquet", "r/B/slides.parquet")
    assert inputs.partner_files(at("A", run="lite0-flow-go-bp")) == list(of)
    assert inputs.partner_files(at("A", run="lite0-abmil-go-bp")) == []
    assert inputs.partner_files(at("A", run="color-flow.color-go-bp")) == []
    words = Arguments(made, inputs).further_training(at("A", run="lite0-flow-go-bp"))
    assert words == "--partner r/B"


def test_a_start_and_resampled_bags_join_the_training(tmp_path: Path) -> None:
    weights = tmp_path / "my model" / "fold-0" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    start = str(weights.parents[1])
    made = plan(
        {"start": start, "ablations": ALONE, "bags": {"resamples": 4, "resample_share": 0.25}}
    )
    inputs, job = Inputs(made), at(run="lite0-flow-go-bp")
    assert inputs.start_files(job) == [str(weights)]
    bags = "r/mine/bags/lite0/resamples-4-0.25.safetensors"
    assert inputs.resampled_bags(job) == [bags]
    words = Arguments(made, inputs).further_training(job)
    assert words == f"--start '{start}' --resamples {bags}"
    assert Targets(made).partners == ["r/pan/mine/lite0-flow-go-bp/ablations.parquet"]
    params = Parameters(made)
    named = json.loads(params.resampled_bags(at(number="4", share="0.25")))
    assert named == {"iterations": 25, "k": 100, "resample_share": 0.25, "resamples": 4}
    # The whole bags know nothing of it.
    assert json.loads(params.bags(at())) == {"iterations": 25, "k": 100}
