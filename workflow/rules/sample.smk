"""Draws and posterior means for the val, cal and test slides of a fold.

Reads a fold's model and the bags. Leaves draws/<run>/fold-<k>.zarr and its summary.
"""


rule sample:
    input:
        model=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json",
        weights=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.safetensors",
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{encoder(wildcards.cohort)}.safetensors",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
    output:
        draws=directory(f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr"),
        summary=f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.parquet",
    log:
        f"{RESULTS}/{{cohort}}/logs/sample-{{run}}-{{fold}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/sample-{{run}}-{{fold}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["sample"]
    resources:
        mem_mb=mem_mb(4000),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["sample"],
        model=subpath(input.model, parent=True),
        settings=settings("sample"),
        seed=CONFIG["seed"],
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/sample.py --model {params.model:q} --bags {input.bags:q}"
        " --slides {input.slides:q} --splits {input.splits:q} --fold {wildcards.fold}"
        " --out {output.draws:q} --summary {output.summary:q} --settings {params.settings:q}"
        " --seed {params.seed} --device {params.device} --threads {threads} 2> {log:q}"
