"""What the rules share: the validated configuration, paths, and one helper per question."""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

PACKAGE = Path(workflow.current_basedir).parents[1] / "scripts"
sys.path.insert(0, str(PACKAGE))
# Relative, so that commands can be copied from the log and a moved folder reruns nothing.
SCRIPTS = shlex.quote(os.path.relpath(PACKAGE))

from slide2rna import DRIVER, STEP_VERSIONS
from slide2rna.core import config as configuration
from slide2rna.core import output_folder, yaml_file
from slide2rna.core.errors import UserError
from slide2rna.core.process import SNAKEMAKE
from slide2rna.plan import runs

# Jobs take the interpreter that runs Snakemake, activated or not; a conda environment comes first.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)
# Snakemake sets the other pools to a rule's threads; stages with more than one set this one, too.
os.environ.update(POLARS_MAX_THREADS="1")
# They end with the process that started them, even where it is killed (core/process.py).
os.environ[SNAKEMAKE] = str(os.getpid())

# Snakemake merges them, and the last word is a --configfile's: an error may come from any.
given = [str(path).removeprefix(f"{os.getcwd()}/") for path in workflow.configfiles]
CONFIG_FILES = " + ".join(sorted(dict.fromkeys(given), key="config.yaml".__ne__))
try:
    for file in workflow.configfiles:
        yaml_file.check_keys(file)
    CONFIG = configuration.validate(config, CONFIG_FILES)
except UserError as error:
    # One line, as everywhere else; a traceback through the Snakefile would hide it.
    sys.exit(f"error: {error}")

COHORTS = list(CONFIG["cohorts"])
RESULTS = CONFIG["results"]
SIMULATED = ("demo", "law", "law2")
# Of these, the sources that leave source/truth_genes.parquet.
WITH_TRUTH = ("demo", "law2")
GENERATED = [c for c in COHORTS if CONFIG["cohorts"][c]["source"] in SIMULATED]
THROWN = [c for c in COHORTS if not CONFIG["cohorts"][c]["keep_slides"]]
# Of the other cohorts, as a pattern: download, tiles and features are jobs of their own.
KEPT = "|".join(re.escape(c) for c in COHORTS if c not in THROWN) or "none"
for generated in GENERATED:
    if CONFIG["cohorts"][generated]["source"] in ("law", "law2"):
        block = CONFIG["cohorts"][generated].setdefault("settings", {})
        features = f"{RESULTS}/{generated}/source/features"
        block["features"] = block.get("features", {}) | {"path": features}
SETTINGS = {cohort: configuration.for_cohort(CONFIG, cohort) for cohort in COHORTS}
STAINED = [
    c
    for c in COHORTS
    if c not in THROWN and SETTINGS[c]["features"]["encoder"] != "files"
]
NO_SLIDES = (
    "no slides to read again; it needs keep_slides: true and an encoder of tiles"
)
try:
    COMPARED = {cohort: runs.model_runs(CONFIG, cohort) for cohort in COHORTS}
    SAMPLERS = {cohort: runs.samplers(COMPARED[cohort][0]) for cohort in COHORTS}
    ABLATIONS = {cohort: runs.ablations(CONFIG, cohort) for cohort in COHORTS}
    for planned in COHORTS:
        # Where slides are gone, or never were, there is one set of features.
        if planned in THROWN or SETTINGS[planned]["features"]["encoder"] == "files":
            ABLATIONS[planned] = {
                name: run
                for name, run in ABLATIONS[planned].items()
                if run.encoder == COMPARED[planned][0].encoder
            }
        if "samplers" in SETTINGS[planned]["extras"] and not SAMPLERS[planned]:
            sys.exit(
                f"error: extras of {planned}: samplers: its first model isn't the flow"
            )
        if "ablations" in SETTINGS[planned]["extras"] and not ABLATIONS[planned]:
            sys.exit(
                f"error: extras of {planned}: ablations: there are none; name some"
            )
        if "stain" in SETTINGS[planned]["extras"] and planned not in STAINED:
            sys.exit(f"error: extras of {planned}: stain: {NO_SLIDES}")
    PLANNED = {c: [*COMPARED[c], *ABLATIONS[c].values()] for c in COHORTS}
    # By the names that paths give them; ablations bring encoders and gene sets of their own.
    FEATURES = {
        c: runs.settings_by_name(PLANNED[c], "encoder", "features") for c in COHORTS
    }
    SETS = {
        c: runs.settings_by_name(PLANNED[c], "pathways", "pathways") for c in COHORTS
    }
    for cohort_runs in PLANNED.values():
        for run in cohort_runs:
            run.search()
except UserError as error:
    sys.exit(f"error: {error}")
RUNS = {cohort: {run.name: run for run in PLANNED[cohort]} for cohort in COHORTS}
# The node that a job runs on reads this, too, and goes by the host where Snakemake was started.
driver = os.environ.setdefault(DRIVER, shutil.which("nvidia-smi") or "")
# With no GPU on this host, or none wanted, nothing waits for one.
GPU = int(CONFIG["device"] == "cuda" or (CONFIG["device"] == "auto" and driver != ""))
# Of the rules that may use a GPU; all others name envs/cpu.yaml.
GPU_ENV = "../../envs/gpu.yaml" if GPU else "../../envs/cpu.yaml"


wildcard_constraints:
    cohort="|".join(re.escape(cohort) for cohort in COHORTS),
    shard=r"\d+",
    fold=r"\d+",
    number=r"\d+",
    share=r"[0-9.e-]+",
    encoder=r"[A-Za-z0-9._-]+",
    run=r"[A-Za-z0-9._-]+",
    set=r"[A-Za-z0-9._-]+",


def settings(section):
    """Params function: a cohort's settings of one section as JSON, so that a change reruns."""
    return lambda wildcards: json.dumps(
        SETTINGS[wildcards.cohort][section], sort_keys=True
    )


def untracked(value):
    """Params function of what decides no result: a change of it reruns nothing.

    Snakemake compares no params of functions that ask for threads or resources.
    """
    return lambda wildcards, threads: value(wildcards)


def deciding(section, value):
    """Beside `untracked` settings, those keys of them that do decide a result."""
    return lambda wildcards: json.dumps(
        configuration.result_settings(section, json.loads(value(wildcards))),
        sort_keys=True,
    )


def bag_settings(wildcards):
    """Section bags as JSON, as far as a slide's whole bag depends on it."""
    own = SETTINGS[wildcards.cohort]["bags"]
    return json.dumps(configuration.result_settings("bags", own), sort_keys=True)


def resample_settings(wildcards):
    """As that, with the number and the share that a path of resampled bags names."""
    own = {"resamples": int(wildcards.number), "resample_share": float(wildcards.share)}
    return json.dumps(json.loads(bag_settings(wildcards)) | own, sort_keys=True)


def run_of(wildcards):
    """The run that a path names."""
    return RUNS[wildcards.cohort][wildcards.run]


def run_settings(section):
    """As `settings`, of a run: an ablation has its own."""
    return lambda wildcards: json.dumps(
        run_of(wildcards).settings[section], sort_keys=True
    )


def feature_settings(wildcards):
    """Of the features that a path names."""
    return features_json(
        wildcards.cohort, FEATURES[wildcards.cohort][wildcards.encoder]
    )


def feature_form(wildcards):
    """What the stage bags must know of the features, as JSON."""
    own = FEATURES[wildcards.cohort][wildcards.encoder]
    keys = ("encoder", "level", "scale")
    return json.dumps({key: own[key] for key in keys}, sort_keys=True)


def cohort_features(wildcards):
    return features_json(wildcards.cohort, SETTINGS[wildcards.cohort]["features"])


def run_features(wildcards):
    return features_json(wildcards.cohort, run_of(wildcards).settings["features"])


def train_settings(wildcards):
    return json.dumps(run_of(wildcards).training(), sort_keys=True)


def sample_settings(wildcards):
    return json.dumps(run_of(wildcards).sampling(), sort_keys=True)


def sampler_settings(wildcards, kept=lambda section, values: values):
    """Name, settings and network of every sampler; which is the reference is no matter here."""
    found = sorted(SAMPLERS[wildcards.cohort], key=lambda sampler: sampler.name)
    own = [[s.name, kept("sample", s.settings), s.student] for s in found]
    return json.dumps(own, sort_keys=True)


def encoder(cohort):
    return COMPARED[cohort][0].encoder


def pathway_set(cohort):
    return COMPARED[cohort][0].pathways


def run_name(cohort):
    """The run that a cohort's report is about."""
    return COMPARED[cohort][0].name


def shards(cohort, stage):
    """The manifests of a stage, one per shard."""
    number = CONFIG["cohorts"][cohort]["shards"]
    return [f"{RESULTS}/{cohort}/{stage}/shard-{i}.parquet" for i in range(number)]


def folds(cohort):
    """Fold numbers; within one patient every section is a fold, and the data says how many."""
    return range(SETTINGS[cohort]["folds"]["n"])


def report_page(cohort):
    return f"{RESULTS}/{cohort}/report/index.html"


def packaged_model(cohort):
    """What a new slide is predicted with: the network that the report is about."""
    return f"{RESULTS}/{cohort}/models/{run_name(cohort)}/predictor.json"


def package_settings(wildcards):
    """The sections that a new slide's prediction depends on, as JSON."""
    own = run_of(wildcards).settings
    sections = ("tiles", "bags", "sample", "evaluate", "shift")
    found = {name: own[name] for name in sections}
    found["features"] = with_weights(wildcards.cohort, own["features"])
    found["bags"] = configuration.result_settings("bags", own["bags"])
    return json.dumps(found, sort_keys=True)


def mem_mb(base):
    """Memory that doubles with each retry, for clusters that kill what takes more."""
    return lambda wildcards, attempt: base * 2 ** (attempt - 1)


def runtime(minutes):
    """As `mem_mb`, of time; what was killed for it goes on where it was."""
    return mem_mb(minutes)
