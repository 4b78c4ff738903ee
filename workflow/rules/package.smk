"""The reported network of a cohort as a folder that stands alone, for slides to come.

Reads the fold models, the evaluation's tables and what shift saved. Leaves in models/<run>/ the
tables by which new slides are predicted and judged, predictor.json and a model card.
"""


rule package:
    input:
        models=fold_paths(
            f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json"
        ),
        weights=fold_paths(
            f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.safetensors"
        ),
        shift=fold_paths(
            f"{RESULTS}/{{cohort}}/shift/{{run}}/fold-{{fold}}.safetensors"
        ),
        evaluation=[
            f"{RESULTS}/{{cohort}}/evaluation/{{run}}/{table}.parquet"
            for table in (
                "summary",
                "genes",
                "pathways",
                "samples",
                "calibration",
                "conformal",
                "conformal_factors",
            )
        ],
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
        pathways=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/pathways/{run_of(wildcards).pathways}.parquet",
        encoder=lambda wildcards: weights(
            wildcards.cohort, run_of(wildcards).settings["features"]
        ),
    output:
        about=f"{RESULTS}/{{cohort}}/models/{{run}}/predictor.json",
        card=f"{RESULTS}/{{cohort}}/models/{{run}}/README.md",
        genes=f"{RESULTS}/{{cohort}}/models/{{run}}/genes.parquet",
        pathways=f"{RESULTS}/{{cohort}}/models/{{run}}/pathways.parquet",
        conformal=f"{RESULTS}/{{cohort}}/models/{{run}}/conformal.parquet",
        known=f"{RESULTS}/{{cohort}}/models/{{run}}/known_slides.parquet",
        familiar=directory(f"{RESULTS}/{{cohort}}/models/{{run}}/familiar"),
    log:
        f"{RESULTS}/{{cohort}}/logs/package-{{run}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/package-{{run}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(2000),
        runtime=runtime(30),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["package"],
        cohort=lambda wildcards: f"{RESULTS}/{wildcards.cohort}",
        encoder=lambda wildcards: run_of(wildcards).encoder,
        set=lambda wildcards: run_of(wildcards).pathways,
        folds=lambda wildcards: len(folds(wildcards.cohort)),
        settings=package_settings,
        seed=lambda wildcards: run_of(wildcards).seed,
    shell:
        "python {params.scripts}/package.py --cohort-dir {params.cohort:q} --run {wildcards.run}"
        " --features {params.encoder} --pathways {params.set} --folds {params.folds}"
        " --settings {params.settings:q} --seed {params.seed} 2> {log:q}"
