"""The flow-matching model, one job per fold.

Reads bags, expression, splits and pathways, once the guard has passed them. Leaves
models/<run>/fold-<k>/ with model.safetensors, model.json and log.parquet. The checkpoint beside
them is not declared: a killed job resumes from it.
"""


rule train:
    input:
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{encoder(wildcards.cohort)}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        pathways=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/pathways/{pathway_set(wildcards.cohort)}.parquet",
        guard=f"{RESULTS}/{{cohort}}/guard.json",
    output:
        weights=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.safetensors",
        model=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json",
        log=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/log.parquet",
    log:
        f"{RESULTS}/{{cohort}}/logs/train-{{run}}-{{fold}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/train-{{run}}-{{fold}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["train"]
    resources:
        mem_mb=mem_mb(8000),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["train"],
        model=settings("model"),
        settings=settings("train"),
        out=subpath(output.model, parent=True),
        seed=CONFIG["seed"],
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/train.py --bags {input.bags:q} --expression {input.expression:q}"
        " --splits {input.splits:q} --slides {input.slides:q} --pathways {input.pathways:q}"
        " --guard {input.guard:q} --fold {wildcards.fold} --out {params.out:q}"
        " --model {params.model:q} --settings {params.settings:q} --seed {params.seed}"
        " --device {params.device} --threads {threads} 2> {log:q}"
