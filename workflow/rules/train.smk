"""A network of a run, one job per fold.

Reads bags, expression, splits and pathways, once the guard has passed them. Leaves
models/<run>/fold-<k>/ with model.safetensors, model.json, log, search and training record. Not
declared beside them: log.csv, the same log as text, and the checkpoint, from which a killed job
resumes.
"""


rule train:
    input:
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        pathways=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/pathways/{run_of(wildcards).pathways}.parquet",
        guard=f"{RESULTS}/{{cohort}}/guard.json",
        partners=partner_files,
        start=start_files,
        resamples=resampled_bags,
    output:
        weights=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.safetensors",
        model=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json",
        log=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/log.parquet",
        search=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/search.parquet",
        record=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/training_record.parquet",
    log:
        f"{RESULTS}/{{cohort}}/logs/train-{{run}}-{{fold}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/train-{{run}}-{{fold}}.tsv"
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
        name=lambda wildcards: run_of(wildcards).model,
        model=lambda wildcards: json.dumps(run_of(wildcards).network(), sort_keys=True),
        settings=untracked(train_settings),
        deciding=deciding("train", train_settings),
        search=lambda wildcards: json.dumps(run_of(wildcards).search(), sort_keys=True),
        further=further_arguments,
        out=subpath(output.model, parent=True),
        seed=lambda wildcards: run_of(wildcards).seed,
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/train.py --bags {input.bags:q} --expression {input.expression:q}"
        " --splits {input.splits:q} --slides {input.slides:q} --pathways {input.pathways:q}"
        " --guard {input.guard:q} {params.further} --fold {wildcards.fold} --out {params.out:q}"
        " --name {params.name} --model {params.model:q} --settings {params.settings:q}"
        " --search {params.search:q} --seed {params.seed}"
        " --device {params.device} --threads {threads} 2> {log:q}"
