"""Every number with n and an interval, beside the other models and the nulls on the same folds.

Reads draws and points of all runs and folds, and the truth. Leaves evaluation/<run>/*.parquet.
"""


rule evaluate:
    input:
        draws=fold_paths(f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr"),
        models=fold_paths(
            f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json"
        ),
        others=of_runs(
            f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr",
            lambda cohort: COMPARED[cohort][1:],
        ),
        search=of_runs(
            f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/search.parquet",
            lambda cohort: COMPARED[cohort],
        ),
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
        pathways=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/pathways/{run_of(wildcards).pathways}.parquet",
    output:
        summary=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/summary.parquet",
        genes=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/genes.parquet",
        calibration=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/calibration.parquet",
        pathways=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/pathways.parquet",
        samples=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/samples.parquet",
        examples=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/examples.parquet",
        search=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/search.parquet",
        conformal=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/conformal.parquet",
        conformal_factors=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/conformal_factors.parquet",
        coexpression=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/coexpression.parquet",
        pathway_intervals=f"{RESULTS}/{{cohort}}/evaluation/{{run}}/pathway_intervals.parquet",
    log:
        f"{RESULTS}/{{cohort}}/logs/evaluate-{{run}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/evaluate-{{run}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        models=lambda wildcards, input: [
            str(Path(model).parent) for model in input.models
        ],
        settings=settings("evaluate"),
        others=lambda wildcards, input: (
            f"--others {shlex.join(input.others)}" if input.others else ""
        ),
        out=subpath(output.summary, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/evaluate.py --draws {input.draws:q} --models {params.models:q}"
        " {params.others} --search {input.search:q}"
        " --bags {input.bags:q} --expression {input.expression:q} --slides {input.slides:q}"
        " --splits {input.splits:q} --cohort {input.cohort:q} --pathways {input.pathways:q}"
        " --run {wildcards.run} --out {params.out:q} --settings {params.settings:q}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
