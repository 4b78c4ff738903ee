"""What partner cohorts add: each member of a `pan` beside itself trained without partners.

`snakemake pan` makes the tables; nothing else asks for them. Leaves results/pan/<cohort>/<run>/ with
those of the ablation `alone`, and a figure. The cohort's own page has the row, too, with
`extras: [ablations]`.
"""

JOINED = [
    cohort
    for cohort in COHORTS
    if (configuration.partners(CONFIG, cohort) or SETTINGS[cohort]["start"])
    and runs.ALONE in ABLATIONS[cohort]
]


rule pan:
    input:
        [f"{RESULTS}/pan/{c}/{run_name(c)}/ablations.parquet" for c in JOINED],


use rule score_ablations as score_partners with:
    input:
        draws=fold_paths(f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr"),
        models=fold_paths(
            f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json"
        ),
        others=of_runs(
            f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr",
            lambda cohort: [ABLATIONS[cohort][runs.ALONE]],
        ),
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
        pathways=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/pathways/{run_of(wildcards).pathways}.parquet",
    output:
        table=f"{RESULTS}/pan/{{cohort}}/{{run}}/ablations.parquet",
        pathways=f"{RESULTS}/pan/{{cohort}}/{{run}}/pathways.parquet",
        figures=multiext(f"{RESULTS}/pan/{{cohort}}/{{run}}/ablations", ".png", ".svg"),
    log:
        f"{RESULTS}/pan/{{cohort}}/{{run}}/score.log",
    benchmark:
        f"{RESULTS}/pan/{{cohort}}/{{run}}/score.tsv"
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        models=lambda wildcards, input: [
            str(Path(model).parent) for model in input.models
        ],
        variants=lambda wildcards: json.dumps(
            [[ABLATIONS[wildcards.cohort][runs.ALONE].label, runs.ALONE, "partners"]]
        ),
        settings=settings("evaluate"),
        out=subpath(output.table, parent=True),
        seed=CONFIG["seed"],
