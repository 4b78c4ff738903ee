"""A network of a run, one job per fold.

Reads bags, expression, splits and pathways, once the guard has passed them. Leaves
models/<run>/fold-<k>/ with model.safetensors, model.json, log, search and training record. Not
declared beside them: log.csv, the same log as text, and the checkpoint, from which a killed job
resumes.
"""


rule train:
    input:
        bags=INPUTS.bags,
        expression=PATHS.expression,
        splits=PATHS.splits,
        slides=PATHS.slides,
        pathways=INPUTS.gene_sets,
        guard=PATHS.guard,
        partners=INPUTS.partner_files,
        start=INPUTS.start_files,
        resamples=INPUTS.resampled_bags,
    output:
        weights=PATHS.model_weights,
        model=PATHS.model,
        log=PATHS.training_log,
        search=PATHS.search,
        record=PATHS.training_record,
    log:
        PATHS.log("train-{run}-{fold}"),
    benchmark:
        PATHS.benchmark("train-{run}-{fold}")
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["train"]
    resources:
        mem_mb=mem_mb(8000),
        runtime=runtime(1440),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["train"],
        name=PARAMS.run("model"),
        model=PARAMS.network,
        settings=untracked(PARAMS.training),
        deciding=PARAMS.deciding("train", PARAMS.training),
        search=PARAMS.search,
        further=ARGUMENTS.further_training,
        start=STAMPS.tables(INPUTS.start_files),
        out=subpath(output.model, parent=True),
        seed=PARAMS.run("seed"),
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/train.py --bags {input.bags:q} --expression {input.expression:q}"
        " --splits {input.splits:q} --slides {input.slides:q} --pathways {input.pathways:q}"
        " --guard {input.guard:q} {params.further} --fold {wildcards.fold} --out {params.out:q}"
        " --name {params.name} --model {params.model:q} --settings {params.settings:q}"
        " --search {params.search:q} --seed {params.seed}"
        " --device {params.device} --threads {threads} 2> {log:q}"
