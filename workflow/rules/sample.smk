"""Draws and points for the val, cal and test slides of a fold.

Reads a fold's model and the bags. Leaves draws/<run>/fold-<k>.zarr and its summary.
"""


rule sample:
    input:
        model=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/models/{run_of(wildcards).trained_run}/fold-{wildcards.fold}/model.json",
        weights=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/models/{run_of(wildcards).trained_run}/fold-{wildcards.fold}/model.safetensors",
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
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
        label=lambda wildcards: run_of(wildcards).label,
        settings=untracked(sample_settings),
        deciding=deciding("sample", sample_settings),
        seed=lambda wildcards: run_of(wildcards).seed,
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/sample.py --model {params.model:q} --bags {input.bags:q}"
        " --slides {input.slides:q} --splits {input.splits:q} --fold {wildcards.fold}"
        " --label {params.label} --out {output.draws:q} --summary {output.summary:q} --settings {params.settings:q}"
        " --seed {params.seed} --device {params.device} --threads {threads} 2> {log:q}"
