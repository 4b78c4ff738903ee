"""Models of one cohort, all folds together, on the slides of another.

Reads the fold models and val points of the training cohort, and the bags and tables of the test
cohort. Leaves external/<train>/<run>/ in the test cohort's folder: fold-<k>.zarr, tables, and a page.
"""


rule external:
    input:
        in_one_line(TARGETS.external),


rule external_units:
    """Every unit of the test cohort is test for every fold model of the training cohort."""
    input:
        PATHS.slides,
    output:
        splits=PATHS.external_splits,
        digest=PATHS.external_splits_digest,
    log:
        PATHS.log("external-units-{train}"),
    benchmark:
        PATHS.benchmark("external-units-{train}")
    wildcard_constraints:
        train=any_of(PLAN.cohorts),
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(1000),
        runtime=runtime(30),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["sample"],
        folds=PAIRS.folds,
    shell:
        "python {params.scripts}/external.py units --slides {input:q} --folds {params.folds}"
        " --out {output.splits:q} 2> {log:q}"


rule external_sample:
    """One fold model of the training cohort on all slides of the test cohort."""
    input:
        model=PATHS.of_train(PATHS.model),
        weights=PATHS.of_train(PATHS.model_weights),
        bags=PAIRS.test_bags,
        slides=PATHS.slides,
        splits=PATHS.external_splits,
    output:
        draws=directory(PATHS.external_draws),
        summary=temp(PATHS.external_draw_summary),
    log:
        PATHS.log("external-sample-{train}-{run}-{fold}"),
    benchmark:
        PATHS.benchmark("external-sample-{train}-{run}-{fold}")
    wildcard_constraints:
        train=any_of(PLAN.cohorts),
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["sample"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["sample"],
        model=subpath(input.model, parent=True),
        label=PAIRS.run("label"),
        settings=untracked(PAIRS.sampling),
        deciding=PARAMS.deciding("sample", PAIRS.sampling),
        seed=CONFIG["seed"],
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/sample.py --model {params.model:q} --bags {input.bags:q}"
        " --slides {input.slides:q} --splits {input.splits:q} --fold {wildcards.fold}"
        " --label {params.label} --out {output.draws:q} --summary {output.summary:q} --settings {params.settings:q}"
        " --seed {params.seed} --device {params.device} --threads {threads} 2> {log:q}"


rule external_score:
    """The fold models as one, scored on the test cohort beside the training cohort's nulls."""
    input:
        external=PAIRS.every_fold(PATHS.external_draws),
        draws=PAIRS.every_fold(PATHS.of_train(PATHS.draws)),
        splits=PATHS.external_splits,
        pathways=PAIRS.gene_sets,
        bags=PAIRS.bags,
        tables=PAIRS.tables,
    output:
        summary=PATHS.external("summary"),
        genes=PATHS.external("genes"),
        calibration=PATHS.external("calibration"),
        pathways=PATHS.external("pathways"),
        figures=directory(PATHS.external_figures),
        page=report(
            PATHS.external_page,
            category="External validation",
            labels={"train": "{train}", "test": "{cohort}"},
        ),
    log:
        PATHS.log("external-{train}-{run}"),
    benchmark:
        PATHS.benchmark("external-{train}-{run}")
    wildcard_constraints:
        train=any_of(PLAN.cohorts),
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
    params:
        scripts=SCRIPTS,
        code=[STEP_VERSIONS["evaluate"], STEP_VERSIONS["report"]],
        train=PAIRS.train_folder,
        test=PARAMS.folder,
        encoder=PAIRS.run("encoder"),
        settings=PARAMS.section("evaluate"),
        out=subpath(output.page, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/external.py score --train {params.train:q} --test {params.test:q}"
        " --encoder {params.encoder} --draws {input.draws:q} --external {input.external:q}"
        " --splits {input.splits:q} --pathways {input.pathways:q} --run {wildcards.run} --out {params.out:q}"
        " --settings {params.settings:q} --seed {params.seed} --threads {threads} 2> {log:q}"
