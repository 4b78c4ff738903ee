"""Plans of configurations as closed facts: runs, files, parameters, arguments, and refusals."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slide2rna.core.errors import ConfigError
from slide2rna.plan.arguments import Arguments
from slide2rna.plan.inputs import Inputs
from slide2rna.plan.pairs import Pairs
from slide2rna.plan.parameters import Parameters
from slide2rna.plan.plan import Plan
from slide2rna.plan.targets import Targets

SHEET = {"source": "sheet", "sheet": "a.tsv", "expression": "a.csv"}
FILES = {"encoder": "files", "path": "mine"}
DEMO = {"cohorts": {"mine": {"source": "demo"}}}
COLOR = {"color": {"features": {"encoder": "color"}}}
ALONE = {"alone": {"group": "start", "model": {"outside": False}}}


def plan(settings: dict[str, Any] | None = None, /, **block: Any) -> Plan:
    """The plan of one cohort `mine`, the demo's unless its block says otherwise."""
    return Plan.of(
        {
            "cohorts": {"mine": {"source": "demo", "settings": settings or {}} | block},
            "results": "r",
        }
    )


def many(**top: Any) -> Plan:
    """The plan of cohorts A, B and C from sheets."""
    cohorts = {name: dict(SHEET) for name in "ABC"}
    return Plan.of({"results": "r", "folds": {"n": 2}, "cohorts": cohorts} | top)


def at(cohort: str = "mine", **names: str) -> Any:
    """Wildcards of a job."""
    return SimpleNamespace(cohort=cohort, **names)


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
    assert inputs.user_files(at("law")) == ["r/law/source/done.json"]
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


def test_the_files_of_a_run() -> None:
    guided = {"guided": {"sample": {"guidance": 2}}}
    made = plan({"ablations": guided, "folds": {"n": 2}}, shards=2)
    inputs, paths, job = Inputs(made), made.paths, at(run="lite0-flow-go-bp", fold="1")
    assert inputs.bags(job) == "r/mine/bags/lite0.safetensors"
    assert inputs.gene_sets(job) == "r/mine/pathways/go-bp.parquet"
    draws = [f"r/mine/draws/lite0-flow-go-bp/fold-{fold}.zarr" for fold in (0, 1)]
    assert inputs.every_fold(paths.draws)(job) == draws
    assert inputs.ablation_draws(job) == [path.replace("flow-", "flow.guided-") for path in draws]
    assert inputs.other_draws(job) == []
    assert inputs.searches(job) == [
        f"r/mine/models/lite0-flow-go-bp/fold-{fold}/search.parquet" for fold in (0, 1)
    ]
    # An ablation of sampling alone samples the networks of the run that it varies.
    varied = at(run="lite0-flow.guided-go-bp", fold="1")
    network = "r/mine/models/lite0-flow-go-bp/fold-1/model.json"
    assert inputs.trained(paths.model)(varied) == inputs.trained(paths.model)(job) == network
    assert inputs.run_feature_shards(job) == [
        f"r/mine/features/lite0/shard-{shard}.parquet" for shard in (0, 1)
    ]
    student = "r/mine/samplers/lite0-flow-go-bp/student/fold-1/"
    assert inputs.student(job) == [f"{student}model.json", f"{student}model.safetensors"]
    assert Inputs(plan({"samplers": {"one_step": False}})).student(job) == []
    scored = inputs.scored(paths.draws)
    assert list(scored) == [
        *("draws", "models", "bags", "expression", "slides", "splits", "cohort", "pathways")
    ]


def test_weights_and_tiles_of_features() -> None:
    shard = at(encoder="lite0", shard="0")
    lite0 = Inputs(plan())
    assert lite0.encoder_weights(shard) == "r/mine/weights/lite0.pth"
    assert lite0.tiles(shard) == "r/mine/tiles/shard-0.parquet"
    assert (
        json.loads(Parameters(lite0.plan).features(shard))["weights"] == "r/mine/weights/lite0.pth"
    )
    own = Inputs(plan({"features": {"weights": "own.pth"}}))
    assert own.cohort_encoder_weights(at()) == "own.pth"
    assert json.loads(Parameters(own.plan).features(shard))["weights"] == "own.pth"
    files, shard = Inputs(plan({"features": FILES})), at(encoder="files", shard="0")
    assert files.encoder_weights(shard) == files.tiles(shard) == []
    arguments = Arguments(files.plan, files)
    assert arguments.needs_slides(at()) == ""
    assert arguments.tiles(shard, SimpleNamespace(tiles=[])) == ""
    assert Inputs(plan({"features": {"encoder": "color"}})).cohort_encoder_weights(at()) == []


def test_gene_sets_of_the_users_own_are_a_file() -> None:
    made = plan({"pathways": {"source": "sets/own.gmt"}})
    assert Inputs(made).gene_set_file(at(set="own")) == "sets/own.gmt"
    assert json.loads(Parameters(made).gene_sets(at(set="own")))["source"] == "sets/own.gmt"
    assert Inputs(plan()).gene_set_file(at(set="go-bp")) == []


def test_a_report_waits_for_its_extras() -> None:
    def studies(made: Plan) -> set[str]:
        files = Inputs(made).report(at())
        return {path.split("/")[2] for path in files} & {*extras, "tiles"}

    extras = {"ablations", "samplers", "leak_audit", "stain"}
    assert studies(plan()) == {"tiles"}
    assert studies(plan({"extras": sorted(extras), "ablations": COLOR})) == {*extras, "tiles"}
    assert studies(plan({"features": FILES})) == set()
    shown = json.loads(Parameters(plan()).report(at()))
    assert not extras & shown.keys()
    assert shown["baselines"] == {}
    assert "search" not in shown["train"]
    shown = json.loads(
        Parameters(
            plan({"extras": ["leak_audit"], "models": ["flow", "he2rna"], "search": 2})
        ).report(at())
    )
    assert shown["leak_audit"] == {"models": ["memoriser", "ridge", "abmil"]}
    assert shown["baselines"].keys() == {"he2rna", "abmil"}
    assert "search" in shown["train"]


def test_networks_of_the_leak_audit() -> None:
    made = plan({"leak_audit": {"models": ["ridge", "flow", "abmil"]}})
    assert made.cohorts["mine"].audited == ["flow", "abmil"]
    assert Inputs(made).audited_gene_sets(at()) == "r/mine/pathways/go-bp.parquet"
    params = Parameters(made)
    flow = json.loads(params.audited(at()))["flow"]["train"]
    deciding = json.loads(params.deciding_audited(at()))["flow"]["train"]
    assert flow.keys() - deciding.keys() == {"checkpoint_epochs", "recompute"}
    assert "search" not in flow
    lone = plan({"leak_audit": {"models": ["ridge"]}})
    assert lone.cohorts["mine"].audited == []
    assert Inputs(lone).audited_gene_sets(at()) == []


def test_what_only_later_stages_read_is_no_parameter_of_the_cohort() -> None:
    block = {"source": "gdc", "project": "TCGA-LUAD", "shards": 4, "downloads": 7}
    made = plan(**block, splits="own.tsv", token_file="my token.txt")
    source = json.loads(Parameters(made).source(at()))
    assert {"source", "project", "api"} <= source.keys()
    assert (
        not {"settings", "shards", "downloads", "token_file", "keep_slides", "splits"}
        & source.keys()
    )
    arguments = Arguments(made, Inputs(made))
    assert arguments.server(at()) == f"--api {source['api']} --token-file 'my token.txt'"
    assert arguments.downloads(at()) == 7
    assert arguments.given_split(at()) == "--splits own.tsv"
    assert arguments.published_folds(at()) == ""
    sheet = plan(**SHEET)
    arguments = Arguments(sheet, Inputs(sheet))
    assert (arguments.server(at()), arguments.downloads(at())) == ("", 0)
    assert arguments.given_split(at()) == "--origin a.tsv"


def test_published_folds_say_which_slides_there_are() -> None:
    made = plan(**SHEET, splits="published", published_splits="folds.tsv")
    arguments, inputs = Arguments(made, Inputs(made)), Inputs(made)
    assert json.loads(Parameters(made).source(at()))["splits"] == "published"
    assert arguments.given_split(at()) == "--published-splits folds.tsv"
    assert re.fullmatch(r"--folds '\{.*\}' --seed 1", arguments.published_folds(at()))
    assert inputs.split_files(at()) == ["folds.tsv"]
    assert inputs.user_files(at()) == ["a.tsv", "a.csv", "folds.tsv"]


def test_keys_that_decide_no_result_are_apart() -> None:
    made = plan()
    params = Parameters(made)
    whole = json.loads(params.features(at(encoder="lite0")))
    deciding = json.loads(params.deciding("features", params.features)(at(encoder="lite0")))
    assert whole.keys() - deciding.keys() == {"batch", "path", "level", "scale"}
    run = at(run="lite0-flow-go-bp")
    sampling = json.loads(params.deciding("sample", params.sampling)(run))
    assert json.loads(params.sampling(run)).keys() - sampling.keys() == {"memory_mb"}
    assert params.run("seed")(run) == 1
    assert params.run("label")(run) == "flow"
    labels = [row[:2] for row in json.loads(params.scored_samplers(run))]
    assert labels[0] == ["flow.exponential-20", "exponential-20"]


def test_fold_models_share_the_draws_of_an_external_cohort() -> None:
    made = many(folds={"n": 3}, sample={"draws": 100}, external=[{"train": "A", "test": "B"}])
    job = at("B", train="A", run="lite0-flow-go-bp")
    pairs, paths = Pairs(made), made.paths
    settings = json.loads(pairs.sampling(job))
    assert (settings["draws"], settings["keep"]) == (34, "draws")
    assert (pairs.folds(job), pairs.run("label")(job)) == (3, "flow")
    assert (pairs.train_folder(job), Parameters(made).folder(job)) == ("r/A", "r/B")
    assert pairs.every_fold(paths.of_train(paths.draws))(job) == [
        f"r/A/draws/lite0-flow-go-bp/fold-{fold}.zarr" for fold in range(3)
    ]
    page = "r/B/external/A/lite0-flow-go-bp"
    assert pairs.every_fold(paths.external_draws)(job)[2] == f"{page}/fold-2.zarr"
    assert pairs.bags(job) == ["r/A/bags/lite0.safetensors", pairs.test_bags(job)]
    assert pairs.test_bags(job) == "r/B/bags/lite0.safetensors"
    assert pairs.gene_sets(job) == "r/A/pathways/go-bp.parquet"
    assert pairs.tables(job)[3:5] == ["r/A/cohort.json", "r/B/expression.parquet"]


SLIDES = "no slides to read again; it needs keep_slides: true and an encoder of tiles"
TWICE = {"variants": [{"solver": "euler", "steps": 3}] * 2}
LONE = {"variants": [{"solver": "heun", "steps": 2}], "reference": "heun-2", "one_step": False}
NAMESAKE = {"mf": {"pathways": {"source": "b/own.gmt"}}}


@pytest.mark.parametrize(
    ("settings", "block", "line"),
    [
        (
            {"extras": ["samplers"], "models": ["abmil"]},
            {},
            "extras of mine: samplers: its first model isn't the flow; put flow first in models",
        ),
        (
            {"extras": ["ablations"]},
            {},
            "extras of mine: ablations: there are none; name some",
        ),
        (
            {
                "extras": ["ablations"],
                "ablations": COLOR,
            },
            {"keep_slides": False},
            "extras of mine: ablations: there are none; name some",
        ),
        ({"extras": ["stain"], "features": FILES}, {}, f"extras of mine: stain: {SLIDES}"),
        ({"extras": ["stain"]}, {"keep_slides": False}, f"extras of mine: stain: {SLIDES}"),
        (
            {"search": 4},
            {},
            "search: 4: flow has 3 configurations; lower it, or add to the model's own list search",
        ),
        (
            {"bags": {"resamples": 3}, "features": FILES | {"level": "slide"}},
            {},
            "bags.resamples: 3: features.level slide has one vector for each slide, and no tiles "
            "to draw; leave it at 0",
        ),
        ({"samplers": TWICE}, {}, "samplers.variants: euler-3 is there twice; keep one"),
        (
            {"samplers": LONE},
            {},
            "samplers: there is the reference alone; add a variant, or one_step",
        ),
        (
            {"pathways": {"source": "a/own.gmt"}, "ablations": NAMESAKE},
            {},
            "ablation mf: its pathways would be named 'own', as another's are; give its file or "
            "encoder another name, or change one more key of it",
        ),
        (
            {"bags": {"kk": 3}},
            {},
            "config.yaml: cohorts.mine.settings.bags: unknown key 'kk'; did you mean 'k'?",
        ),
    ],
)
def test_a_cohort_that_cannot_be_planned(settings: dict, block: dict, line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
        plan(settings, **block)


def test_targets_that_no_cohort_has() -> None:
    with pytest.raises(ConfigError, match=f"^stain: {SLIDES}$"):
        Targets(plan(keep_slides=False)).stain(at(""))
    line = "external: config.yaml names no pair; add one: external: [{train: A, test: B}]"
    with pytest.raises(ConfigError, match=re.escape(line)):
        Targets(plan()).external(at(""))


def test_a_cohort_cannot_have_a_rules_name() -> None:
    made = many()
    made.check_names(["train", "all"])
    line = "config.yaml: cohorts.A: a rule has this name; choose another"
    with pytest.raises(ConfigError, match=re.escape(line)):
        made.check_names(["train", "B", "A"])


def test_an_error_names_the_files_that_it_may_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.yaml", "config.yaml"):
        Path(name).write_text("seed: 1\n")
    files = [tmp_path / "mine.yaml", tmp_path / "config.yaml", tmp_path / "mine.yaml"]
    wrong = {"cohorts": {"mine": {"source": "demoo"}}}
    with pytest.raises(ConfigError, match=r"^config\.yaml \+ mine\.yaml: cohorts\.mine\.source"):
        Plan.of(wrong, files)
    Path("mine.yaml").write_text("seed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match="the key 'seed' is there twice"):
        Plan.of(DEMO, files)


def test_a_plan_leaves_snakemakes_configuration_alone() -> None:
    config = {"cohorts": {"law": {"source": "law", "settings": {"features": {"encoder": "files"}}}}}
    before = json.dumps(config)
    Plan.of(config)
    assert json.dumps(config) == before


def test_the_snakefile_asks_for_the_snakemake_of_pyproject(repo: Path) -> None:
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    (needed,) = (text for text in project["dependencies"] if text.startswith("snakemake>"))
    asked = re.findall(r'^min_version\("(.+)"\)$', (repo / "workflow/Snakefile").read_text(), re.M)
    assert [needed] == [f"snakemake>={version},<10" for version in asked]
