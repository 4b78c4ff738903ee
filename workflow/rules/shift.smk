"""How far each slide lies from training, and what a run gains by not answering for the farthest.

Reads draws and bags, and expression of the train part. Leaves shift/<run>/fold-<k>.parquet, a
.safetensors beside each by which new slides can be judged, and shift/<run>/abstention.parquet.
"""


rule shift:
    input:
        draws=f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr",
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
    output:
        table=f"{RESULTS}/{{cohort}}/shift/{{run}}/fold-{{fold}}.parquet",
        saved=f"{RESULTS}/{{cohort}}/shift/{{run}}/fold-{{fold}}.safetensors",
    log:
        f"{RESULTS}/{{cohort}}/logs/shift-{{run}}-{{fold}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/shift-{{run}}-{{fold}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        settings=settings("shift"),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/shift.py --draws {input.draws:q} --bags {input.bags:q}"
        " --expression {input.expression:q} --slides {input.slides:q} --splits {input.splits:q}"
        " --cohort {input.cohort:q} --run {wildcards.run} --out {output.table:q}"
        " --saved {output.saved:q} --settings {params.settings:q} --seed {params.seed}"
        " --threads {threads} 2> {log:q}"


rule abstain:
    input:
        draws=fold_paths(f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr"),
        shift=fold_paths(f"{RESULTS}/{{cohort}}/shift/{{run}}/fold-{{fold}}.parquet"),
        genes=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/genes.parquet",
        samples=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/samples.parquet",
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
    output:
        f"{RESULTS}/{{cohort}}/shift/{{run}}/abstention.parquet",
    log:
        f"{RESULTS}/{{cohort}}/logs/abstain-{{run}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/abstain-{{run}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        evaluation=subpath(input.genes, parent=True),
        settings=settings("shift"),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/abstain.py --draws {input.draws:q} --shift {input.shift:q}"
        " --evaluation {params.evaluation:q} --bags {input.bags:q}"
        " --expression {input.expression:q} --slides {input.slides:q} --splits {input.splits:q}"
        " --cohort {input.cohort:q} --run {wildcards.run} --out {output:q}"
        " --settings {params.settings:q} --seed {params.seed} --threads {threads} 2> {log:q}"
