"""What the rules share: the validated configuration, paths, and one helper per question."""

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(workflow.current_basedir).parents[1] / "scripts"
sys.path.insert(0, str(PACKAGE))
# Relative, so that commands can be copied from the log and a moved folder reruns nothing.
SCRIPTS = shlex.quote(os.path.relpath(PACKAGE))

from slide2rna import STEP_VERSIONS
from slide2rna import config as configuration
from slide2rna import runs
from slide2rna.errors import UserError
from slide2rna.lifeline import SNAKEMAKE

# Jobs take the interpreter that runs Snakemake, activated or not; a conda environment comes first.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)
# Snakemake sets the other pools to a rule's threads; stages with more than one set this one, too.
os.environ.update(POLARS_MAX_THREADS="1")
# They end with the process that started them, even where it is killed (lifeline.py).
os.environ[SNAKEMAKE] = str(os.getpid())

# Snakemake merges them, and the last word is a --configfile's: an error may come from any.
given = [str(path).removeprefix(f"{os.getcwd()}/") for path in workflow.configfiles]
CONFIG_FILES = " + ".join(sorted(dict.fromkeys(given), key="config.yaml".__ne__))
try:
    CONFIG = configuration.validate(config, CONFIG_FILES)
except UserError as error:
    # One line, as everywhere else; a traceback through the Snakefile would hide it.
    sys.exit(f"error: {error}")

COHORTS = list(CONFIG["cohorts"])
RESULTS = CONFIG["results"]
GENERATED = [c for c in COHORTS if CONFIG["cohorts"][c]["source"] in ("demo", "law")]
THROWN = [c for c in COHORTS if not CONFIG["cohorts"][c]["keep_slides"]]
# Of the other cohorts, as a pattern: download, tiles and features are jobs of their own.
KEPT = "|".join(re.escape(c) for c in COHORTS if c not in THROWN) or "none"
for generated in GENERATED:
    if CONFIG["cohorts"][generated]["source"] == "law":
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
    COMPARED = {cohort: runs.compared(CONFIG, cohort) for cohort in COHORTS}
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
    FEATURES = {c: runs.by_name(PLANNED[c], "encoder", "features") for c in COHORTS}
    SETS = {c: runs.by_name(PLANNED[c], "pathways", "pathways") for c in COHORTS}
    for cohort_runs in PLANNED.values():
        for run in cohort_runs:
            run.search()
except UserError as error:
    sys.exit(f"error: {error}")
RUNS = {cohort: {run.name: run for run in PLANNED[cohort]} for cohort in COHORTS}
# With no GPU on this host, or none wanted, nothing waits for one.
# The node that a job runs on reads this, too, and goes by the host where Snakemake was started.
DRIVER = os.environ.setdefault("SLIDE2RNA_DRIVER", shutil.which("nvidia-smi") or "")
GPU = int(CONFIG["device"] == "cuda" or (CONFIG["device"] == "auto" and DRIVER != ""))
# Of the rules that may use a GPU; all others name envs/cpu.yaml.
GPU_ENV = "../../envs/gpu.yaml" if GPU else "../../envs/cpu.yaml"


wildcard_constraints:
    cohort="|".join(re.escape(cohort) for cohort in COHORTS),
    shard=r"\d+",
    fold=r"\d+",
    encoder=r"[A-Za-z0-9._-]+",
    run=r"[A-Za-z0-9._-]+",
    set=r"[A-Za-z0-9._-]+",


def check_writable(folder):
    """Stop with a line where the first job would stop with a traceback."""
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        remedy = "make it writable, or name another folder: results"
        sys.exit(f"error: {folder}: {error.strerror}; {remedy}")


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
        configuration.deciding(section, json.loads(value(wildcards))), sort_keys=True
    )


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
    features = json.loads(features_json(wildcards.cohort, own["features"]))
    return json.dumps(found | {"features": features}, sort_keys=True)


def mem_mb(base):
    """Memory that doubles with each retry, for clusters that kill what takes more."""
    return lambda wildcards, attempt: base * 2 ** (attempt - 1)


def runtime(minutes):
    """As `mem_mb`, of time; what was killed for it goes on where it was."""
    return mem_mb(minutes)


def cohort_files(wildcards):
    """The user's own files behind a cohort, so that a change in one of them reruns it."""
    block = CONFIG["cohorts"][wildcards.cohort]
    if wildcards.cohort in GENERATED:
        return [f"{RESULTS}/{wildcards.cohort}/source/done.json"]
    if block["source"] == "her2st":
        return sorted(str(path) for path in Path(block["path"]).glob("*.tsv*"))
    # Not the manifest: the rule itself writes it, and a new input would make it run twice.
    keys = (
        *("sheet", "expression", "published_splits", "genes"),
        *("slide_list", "pathdb_table"),
    )
    return [block[key] for key in keys if block.get(key, "published") != "published"]


def source_block(wildcards):
    """A cohort's block without what only later stages read: those keys must not rerun it."""
    block = CONFIG["cohorts"][wildcards.cohort]
    later = {"settings", "shards", "keep_slides", "downloads", "token_file"}
    if block.get("splits") != "published":
        later |= {"splits"}
    return json.dumps(
        {k: v for k, v in block.items() if k not in later}, sort_keys=True
    )


def published_folds(wildcards):
    """Published folds alone say which slides there are."""
    if CONFIG["cohorts"][wildcards.cohort].get("splits") != "published":
        return ""
    own = json.dumps(SETTINGS[wildcards.cohort]["folds"], sort_keys=True)
    return f"--folds {shlex.quote(own)} --seed {CONFIG['seed']}"


def split_files(wildcards):
    """A split of the user's own."""
    block = CONFIG["cohorts"][wildcards.cohort]
    keys = ("splits", "published_splits")
    return [block[key] for key in keys if block.get(key, "published") != "published"]


def given_splits(wildcards):
    """That split, or the sheet that may have one as a column."""
    block = CONFIG["cohorts"][wildcards.cohort]
    found = {"--published-splits": block.get("published_splits")}
    if "published_splits" not in block:
        found = {"--splits": block.get("splits"), "--origin": block.get("sheet")}
    given = [word for pair in found.items() if pair[1] is not None for word in pair]
    return shlex.join(given)


def needs_slides(wildcards):
    """Features that come from files need none."""
    own = SETTINGS[wildcards.cohort]["features"]["encoder"] == "files"
    return "" if own else "--needs-slides"


def downloads(wildcards):
    """Connections that a download job may hold; slides of one's own need none."""
    block = CONFIG["cohorts"][wildcards.cohort]
    return block["downloads"] if block["source"] == "gdc" else 0


def server(wildcards):
    """Where a token may go, and the file that holds it."""
    block = CONFIG["cohorts"][wildcards.cohort]
    if block["source"] != "gdc":
        return ""
    arguments = ["--api", block["api"]]
    if block["token_file"] is not None:
        arguments += ["--token-file", block["token_file"]]
    return shlex.join(arguments)


def lite0_file(cohort, features):
    """The file of lite0's weights, for features made with it and with none of the user's own."""
    made = features["encoder"] == "lite0" and features["weights"] is None
    return f"{RESULTS}/{cohort}/weights/lite0.pth" if made else None


def weights(cohort, features):
    """Input: the encoder's weights file, if it has one."""
    own = None if features["encoder"] in ("color", "files") else features["weights"]
    return lite0_file(cohort, features) or own or []


def features_json(cohort, features):
    """Section features as JSON, with the weights' file by name."""
    made = lite0_file(cohort, features)
    return json.dumps(features | ({"weights": made} if made else {}), sort_keys=True)


def tile_manifest(wildcards):
    """Own features need no tiles."""
    if FEATURES[wildcards.cohort][wildcards.encoder]["encoder"] == "files":
        return []
    return f"{RESULTS}/{wildcards.cohort}/tiles/shard-{wildcards.shard}.parquet"


def tile_arguments(wildcards, input):
    if not input.tiles:
        return ""
    return f"--tiles {Path(input.tiles).parent} --tiles-manifest {input.tiles}"


def pathway_file(wildcards):
    """A GMT or JSON file of the user's; the named sources need none."""
    source = SETS[wildcards.cohort][wildcards.set]["source"]
    return [] if source in ("go-bp", "go-mf", "adjacent") else source


def fold_paths(pattern):
    """Input function: a path of each fold of the run that the output names."""
    return lambda wildcards: [
        pattern.format(cohort=wildcards.cohort, run=wildcards.run, fold=fold)
        for fold in folds(wildcards.cohort)
    ]


def of_runs(pattern, wanted):
    """Input function: a path of each fold of the runs that `wanted` gives for a cohort."""
    return lambda wildcards: [
        pattern.format(cohort=wildcards.cohort, run=run.name, fold=fold)
        for run in wanted(wildcards.cohort)
        for fold in folds(wildcards.cohort)
    ]


def drawn_by(input, samplers):
    """A draws file per sampler and fold, in the folders that the rule sample_variants left."""
    return [
        f"{fold}/{sampler.name}.zarr" for sampler in samplers for fold in input.draws
    ]


def report_inputs(wildcards):
    cohort, run = wildcards.cohort, run_name(wildcards.cohort)
    base = f"{RESULTS}/{cohort}"
    tables = ["summary", "genes", "calibration", "pathways", "samples", "examples"]
    tables += ["conformal", "coexpression", "pathway_intervals"]
    logs = [f"{base}/models/{run}/fold-{fold}/log.parquet" for fold in folds(cohort)]
    own = SETTINGS[cohort]["features"]["encoder"] == "files"
    further = {
        "ablations": f"{base}/ablations/{run}/ablations.parquet",
        "samplers": f"{base}/samplers/{run}/samplers.parquet",
        "leak_audit": f"{base}/leak_audit/audit.parquet",
        "stain": f"{base}/stain/{run}/stain.parquet",
    }
    shift = [f"fold-{fold}" for fold in folds(cohort)] + ["abstention"]
    return (
        [f"{base}/evaluation/{run}/{table}.parquet" for table in [*tables, "search"]]
        + logs
        + ([] if own else shards(cohort, "tiles"))
        + shards(cohort, f"features/{encoder(cohort)}")
        + [f"{base}/{name}" for name in ("cohort.json", "splits.tsv")]
        + [f"{base}/pathways/{pathway_set(cohort)}.json"]
        + [f"{base}/shift/{run}/{table}.parquet" for table in shift]
        + [further[section] for section in SETTINGS[cohort]["extras"]]
    )


def report_settings(wildcards):
    """A cohort's settings as they were run: without tables that the report doesn't wait for."""
    cohort = wildcards.cohort
    own = dict(SETTINGS[cohort])
    for section in ("ablations", "samplers", "leak_audit", "stain"):
        if section not in own["extras"]:
            del own[section]
    trained = {run.model for run in COMPARED[cohort]} | set(
        audited(cohort) if "leak_audit" in own else []
    )
    own["baselines"] = {
        name: values for name, values in own["baselines"].items() if name in trained
    }
    if own["search"] == 1:
        for values in (own, own["baselines"]):
            for name in values.keys() & {"train", *own["baselines"]}:
                values[name] = {k: v for k, v in values[name].items() if k != "search"}
    return json.dumps(own, sort_keys=True)


def stain_tables(wildcards):
    """Of the cohorts whose slides are there to be read again."""
    if not STAINED:
        sys.exit(f"error: stain: {NO_SLIDES}")
    return [f"{RESULTS}/{c}/stain/{run_name(c)}/stain.parquet" for c in STAINED]


def audited(cohort):
    """The networks to train under both pairings."""
    models = SETTINGS[cohort]["leak_audit"]["models"]
    return [
        name
        for name in models
        if name == "flow" or name in SETTINGS[cohort]["baselines"]
    ]


def audited_networks(wildcards, kept=lambda section, values: values):
    """Their settings as JSON; the search of configurations isn't repeated here."""
    own = SETTINGS[wildcards.cohort]
    return json.dumps(
        {
            name: {
                "model": runs.network_of(name, own),
                "train": kept("train", runs.training_of(name, own)),
            }
            for name in audited(wildcards.cohort)
        },
        sort_keys=True,
    )


def audited_sets(wildcards):
    """The flow alone needs gene sets."""
    if "flow" not in audited(wildcards.cohort):
        return []
    cohort = wildcards.cohort
    return f"{RESULTS}/{cohort}/pathways/{pathway_set(cohort)}.parquet"


EXTERNAL = f"{RESULTS}/{{cohort}}/external/{{train}}"


def external_run(train):
    """The run of a training cohort whose models are scored elsewhere: its first."""
    return COMPARED[train][0]


def external_folds(pattern):
    """A path per fold model of the training cohort."""
    return lambda wildcards: [
        pattern.format(results=RESULTS, **wildcards, fold=fold)
        for fold in folds(wildcards.train)
    ]


def external_settings(wildcards):
    """Draws in equal shares per fold model: so many each that they are `draws` together."""
    sample = external_run(wildcards.train).settings["sample"]
    each = -(-sample["draws"] // len(folds(wildcards.train)))
    # Scoring needs the draws themselves, and these are few.
    own = {"draws": max(2, each), "keep": "draws"}
    return json.dumps(sample | own, sort_keys=True)


def external_pages(wildcards):
    if not EXTERNAL_PAGES:
        remedy = "add one: external: [{train: A, test: B}]"
        sys.exit(f"error: external: {CONFIG_FILES} names no pair; {remedy}")
    return EXTERNAL_PAGES


EXTERNAL_PAGES = [
    f"{RESULTS}/{pair['test']}/external/{pair['train']}/{external_run(pair['train']).name}/index.html"
    for pair in CONFIG["external"]
]
