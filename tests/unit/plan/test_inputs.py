"""Inputs, parameters and arguments of a plan's jobs as closed facts."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

from plans import COLOR, FILES, SHEET, at, many, plan
from slide2rna.plan.arguments import Arguments
from slide2rna.plan.inputs import Inputs
from slide2rna.plan.pairs import Pairs
from slide2rna.plan.parameters import Parameters
from slide2rna.plan.plan import Plan


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
    both = {"encoder": ["lite0", "uni2"], "weights": {"uni2": "uni2.bin"}}
    joint, two = Inputs(plan({"features": both})), at(encoder="lite0-uni2", shard="0")
    weights = {"uni2": "uni2.bin", "lite0": "r/mine/weights/lite0.pth"}
    assert joint.encoder_weights(two) == list(weights.values())
    assert json.loads(Parameters(joint.plan).features(two))["weights"] == weights
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
    unset = {"revision", "embedding"}
    assert whole.keys() - deciding.keys() == {"batch", "path", "level", "scale"} | unset
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
