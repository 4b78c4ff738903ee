"""Variants of a cohort's first model, trained and scored beside it.

`snakemake ablations` makes the table of every cohort that has any; nothing else asks for them,
unless `extras` has the report show them. Leaves ablations/<run>/ with two tables and a figure.
"""


rule ablations:
    input:
        [
            f"{RESULTS}/{cohort}/ablations/{run_name(cohort)}/ablations.parquet"
            for cohort in COHORTS
            if ABLATIONS[cohort]
        ],


rule score_ablations:
    input:
        draws=fold_paths(f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr"),
        models=fold_paths(
            f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json"
        ),
        others=of_runs(
            f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr",
            lambda cohort: ABLATIONS[cohort].values(),
        ),
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
        pathways=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/pathways/{run_of(wildcards).pathways}.parquet",
    output:
        table=f"{RESULTS}/{{cohort}}/ablations/{{run}}/ablations.parquet",
        pathways=f"{RESULTS}/{{cohort}}/ablations/{{run}}/pathways.parquet",
        figures=multiext(
            f"{RESULTS}/{{cohort}}/ablations/{{run}}/ablations", ".png", ".svg"
        ),
    log:
        f"{RESULTS}/{{cohort}}/logs/ablations-{{run}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/ablations-{{run}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(8000),
        runtime=runtime(240),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        models=lambda wildcards, input: [
            str(Path(model).parent) for model in input.models
        ],
        variants=lambda wildcards: json.dumps(
            [
                [
                    run.label,
                    name,
                    SETTINGS[wildcards.cohort]["ablations"][name].get("group", name),
                ]
                for name, run in ABLATIONS[wildcards.cohort].items()
            ]
        ),
        settings=settings("evaluate"),
        out=subpath(output.table, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/ablations.py --draws {input.draws:q} --models {params.models:q}"
        " --others {input.others:q} --variants {params.variants:q}"
        " --bags {input.bags:q} --expression {input.expression:q} --slides {input.slides:q}"
        " --splits {input.splits:q} --cohort {input.cohort:q} --pathways {input.pathways:q}"
        " --out {params.out:q} --settings {params.settings:q}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
