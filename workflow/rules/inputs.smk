"""What a job reads and its parameters, in the order of the flow; common.smk has the names."""


def files_of(block, *keys):
    """Files that a cohort's block names; `published` is a word, not a file."""
    return [block[key] for key in keys if block.get(key, "published") != "published"]


def cohort_files(wildcards):
    """The user's own files behind a cohort, so that a change in one of them reruns it."""
    block = CONFIG["cohorts"][wildcards.cohort]
    if wildcards.cohort in GENERATED:
        return [f"{RESULTS}/{wildcards.cohort}/source/done.json"]
    if block["source"] == "her2st":
        return sorted(str(path) for path in Path(block["path"]).glob("*.tsv*"))
    # Not the manifest: the rule itself writes it, and a new input would make it run twice.
    keys = ("sheet", "expression", "published_splits", "genes", "slide_list")
    return files_of(block, *keys, "pathdb_table")


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
    return files_of(CONFIG["cohorts"][wildcards.cohort], "splits", "published_splits")


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


def with_weights(cohort, features):
    """Section features, with the weights' file by name."""
    made = lite0_file(cohort, features)
    return features | ({"weights": made} if made else {})


def features_json(cohort, features):
    return json.dumps(with_weights(cohort, features), sort_keys=True)


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


def partners(wildcards):
    """The other cohorts of `pan`, whose slides join the fit of a flow's mean."""
    run = run_of(wildcards)
    if run.model != runs.FLOW:
        return []
    # An ablation may have an encoder that a partner wasn't asked for.
    listed = configuration.partners(CONFIG, wildcards.cohort)
    return [cohort for cohort in listed if run.encoder in FEATURES[cohort]]


def partner_files(wildcards):
    """What the partners are read from; their features are this run's."""
    bags = f"bags/{run_of(wildcards).encoder}.safetensors"
    names = (bags, "expression.parquet", "slides.parquet")
    return [f"{RESULTS}/{c}/{name}" for c in partners(wildcards) for name in names]


def further_arguments(wildcards):
    """What else joins the training, one string: without any, a finished run stays as it is."""
    given = [("--partner", f"{RESULTS}/{cohort}") for cohort in partners(wildcards)]
    given += [("--start", start) for start in starting_model(wildcards)]
    given += [("--resamples", path) for path in resampled_bags(wildcards)]
    return shlex.join(word for pair in given for word in pair)


def resampled_bags(wildcards):
    """Further bags of the train slides, where a run is trained on any."""
    name = run_of(wildcards).resamples()
    return [f"{RESULTS}/{wildcards.cohort}/bags/{name}.safetensors"] if name else []


def starting_model(wildcards):
    """The folder of the model that a flow's fit starts from, in a list, or none."""
    start = SETTINGS[wildcards.cohort]["start"]
    return [start] if start and run_of(wildcards).model == runs.FLOW else []


def start_files(wildcards):
    """The fold models that a flow's fit starts from."""
    found = (
        Path(start).glob("fold-*/model.safetensors")
        for start in starting_model(wildcards)
    )
    return sorted(str(path) for paths in found for path in paths)


def drawn_by(input, samplers):
    """A draws file per sampler and fold, in the folders that the rule sample_variants left."""
    return [
        f"{fold}/{sampler.name}.zarr" for sampler in samplers for fold in input.draws
    ]


def truth_made(wildcards):
    """The mark of a generator that leaves the attainable correlations, too."""
    source = CONFIG["cohorts"][wildcards.cohort]["source"]
    folder = f"{RESULTS}/{wildcards.cohort}/source"
    return [f"{folder}/done.json"] if source in WITH_TRUTH else []


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
                "model": runs.network_settings(name, own),
                "train": kept("train", runs.training_settings(name, own)),
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
