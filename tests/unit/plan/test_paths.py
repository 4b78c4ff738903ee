"""Paths of the results folder: where each is, and that no rule writes one of its own."""

from __future__ import annotations

import re
import string
from pathlib import Path

import yaml
from slide2rna.plan.paths import CohortPath, Paths

PATHS = Paths("out")
NAMES = [name for name, value in vars(Paths).items() if isinstance(value, CohortPath)]
WILDCARDS = {"cohort", "shard", "encoder", "set", "run", "fold", "number", "share", "train"}


def test_a_file_of_each_kind() -> None:
    names = {"cohort": "BRCA", "run": "uni-flow-go-bp", "fold": 3, "shard": 1, "encoder": "uni"}
    patterns = {
        PATHS.folder: "out/BRCA",
        PATHS.slides: "out/BRCA/slides.parquet",
        PATHS.tiles_shard: "out/BRCA/tiles/shard-1.parquet",
        PATHS.features_shard: "out/BRCA/features/uni/shard-1.parquet",
        PATHS.features_of("color"): "out/BRCA/features/color/shard-1.parquet",
        PATHS.model: "out/BRCA/models/uni-flow-go-bp/fold-3/model.json",
        PATHS.draws: "out/BRCA/draws/uni-flow-go-bp/fold-3.zarr",
        PATHS.of_train(PATHS.draws): "out/LUAD/draws/uni-flow-go-bp/fold-3.zarr",
        PATHS.evaluation("genes"): "out/BRCA/evaluation/uni-flow-go-bp/genes.parquet",
        PATHS.external("genes"): "out/BRCA/external/LUAD/uni-flow-go-bp/genes.parquet",
        PATHS.partner_log: "out/pan/BRCA/uni-flow-go-bp/score.log",
        PATHS.log("train-{run}-{fold}"): "out/BRCA/logs/train-uni-flow-go-bp-3.log",
        PATHS.benchmark("cohort"): "out/BRCA/benchmarks/cohort.tsv",
        PATHS.report: "out/BRCA/report/index.html",
    }
    found = {pattern: pattern.format(**names, train="LUAD") for pattern in patterns}
    assert found == patterns


def test_each_path_is_one_file_below_its_cohort() -> None:
    patterns = [getattr(PATHS, name) for name in NAMES]
    assert len(set(patterns)) == len(patterns) > 50
    for pattern in patterns:
        assert re.match(r"out/(pan/)?\{cohort\}/", pattern), pattern
        wildcards = {name for _, name, _, _ in string.Formatter().parse(pattern) if name}
        assert wildcards <= WILDCARDS, pattern


def test_the_tables_of_the_page_are_there(repo: Path) -> None:
    described = yaml.safe_load((repo / "docs/reference/tables.yaml").read_text())["tables"]
    patterns = {getattr(PATHS, name) for name in NAMES}
    found = []
    for path in (table["path"] for table in described):
        if path.startswith("tiles/<slide>"):
            continue  # a tile stage's own file, which no rule names
        below = path.replace("<i>", "{shard}").replace("<k>", "{fold}")
        pattern = "out/{cohort}/" + re.sub(r"<(\w+)>", r"{\1}", below)
        table = re.fullmatch(r"out/\{cohort\}/evaluation/\{run\}/(\w+)\.parquet", pattern)
        assert pattern in patterns or (table and PATHS.evaluation(table[1]) == pattern), path
        found.append(path)
    assert len(found) > 20


def test_no_rule_has_a_path_of_its_own(repo: Path) -> None:
    """Text in quotes with a folder or an ending of a result, outside docstrings and commands."""
    checked = 0
    for path in (repo / "workflow" / "rules").glob("*.smk"):
        text = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.S)
        text = re.sub(r"^ +shell:\n(?: +\"[^\n]*\n)+", "", text, flags=re.M)
        for words in re.findall(r'"([^"\n]*)"', text):
            checked += 1
            own = "/" in words or re.search(
                r"\.(parquet|json|tsv|zarr|log|html|safetensors)", words
            )
            assert not own or words.startswith("../"), f"{path.name}: {words}"
    assert checked > 100
