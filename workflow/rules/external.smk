"""Models of one cohort, all folds together, on the slides of another.

Reads the fold models and val points of the training cohort, and the bags and tables of the test
cohort. Leaves external/<train>/<run>/ in the test cohort's folder: fold-<k>.zarr, tables, and a page.
"""


rule external:
    input:
        external_pages,


rule external_units:
    """Every unit of the test cohort is test for every fold model of the training cohort."""
    input:
        f"{RESULTS}/{{cohort}}/slides.parquet",
    output:
        f"{EXTERNAL}/splits.tsv",
    log:
        f"{RESULTS}/{{cohort}}/logs/external-units-{{train}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/external-units-{{train}}.tsv"
    wildcard_constraints:
        train="|".join(re.escape(cohort) for cohort in COHORTS),
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(1000),
        runtime=runtime(30),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["sample"],
        folds=lambda wildcards: len(folds(wildcards.train)),
    shell:
        "python {params.scripts}/external.py units --slides {input:q} --folds {params.folds}"
        " --out {output:q} 2> {log:q}"


rule external_sample:
    """One fold model of the training cohort on all slides of the test cohort."""
    input:
        model=f"{RESULTS}/{{train}}/models/{{run}}/fold-{{fold}}/model.json",
        weights=f"{RESULTS}/{{train}}/models/{{run}}/fold-{{fold}}/model.safetensors",
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{encoder(wildcards.cohort)}.safetensors",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{EXTERNAL}/splits.tsv",
    output:
        draws=directory(f"{EXTERNAL}/{{run}}/fold-{{fold}}.zarr"),
        summary=temp(f"{EXTERNAL}/{{run}}/fold-{{fold}}.parquet"),
    log:
        f"{RESULTS}/{{cohort}}/logs/external-sample-{{train}}-{{run}}-{{fold}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/external-sample-{{train}}-{{run}}-{{fold}}.tsv"
    wildcard_constraints:
        train="|".join(re.escape(cohort) for cohort in COHORTS),
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
        label=lambda wildcards: external_run(wildcards.train).label,
        settings=untracked(external_settings),
        deciding=deciding("sample", external_settings),
        seed=CONFIG["seed"],
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/sample.py --model {params.model:q} --bags {input.bags:q}"
        " --slides {input.slides:q} --splits {input.splits:q} --fold {wildcards.fold}"
        " --label {params.label} --out {output.draws:q} --summary {output.summary:q} --settings {params.settings:q}"
        " --seed {params.seed} --device {params.device} --threads {threads} 2> {log:q}"


rule external_score:
    """The fold models as one, scored on the test cohort beside the training cohort's nulls."""
    input:
        external=external_folds(
            "{results}/{cohort}/external/{train}/{run}/fold-{fold}.zarr"
        ),
        draws=external_folds("{results}/{train}/draws/{run}/fold-{fold}.zarr"),
        splits=f"{EXTERNAL}/splits.tsv",
        pathways=lambda wildcards: f"{RESULTS}/{wildcards.train}/pathways/{pathway_set(wildcards.train)}.parquet",
        bags=lambda wildcards: [
            f"{RESULTS}/{name}/bags/{encoder(name)}.safetensors"
            for name in (wildcards.train, wildcards.cohort)
        ],
        tables=lambda wildcards: [
            f"{RESULTS}/{name}/{table}"
            for name in (wildcards.train, wildcards.cohort)
            for table in (
                "expression.parquet",
                "slides.parquet",
                "splits.tsv",
                "cohort.json",
            )
        ],
    output:
        summary=f"{EXTERNAL}/{{run}}/summary.parquet",
        genes=f"{EXTERNAL}/{{run}}/genes.parquet",
        calibration=f"{EXTERNAL}/{{run}}/calibration.parquet",
        pathways=f"{EXTERNAL}/{{run}}/pathways.parquet",
        figures=directory(f"{EXTERNAL}/{{run}}/figures"),
        page=report(
            f"{EXTERNAL}/{{run}}/index.html",
            category="External validation",
            labels={"train": "{train}", "test": "{cohort}"},
        ),
    log:
        f"{RESULTS}/{{cohort}}/logs/external-{{train}}-{{run}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/external-{{train}}-{{run}}.tsv"
    wildcard_constraints:
        train="|".join(re.escape(cohort) for cohort in COHORTS),
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
    params:
        scripts=SCRIPTS,
        code=[STEP_VERSIONS["evaluate"], STEP_VERSIONS["report"]],
        train=lambda wildcards: f"{RESULTS}/{wildcards.train}",
        test=lambda wildcards: f"{RESULTS}/{wildcards.cohort}",
        encoder=lambda wildcards: encoder(wildcards.train),
        settings=settings("evaluate"),
        out=subpath(output.page, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/external.py score --train {params.train:q} --test {params.test:q}"
        " --encoder {params.encoder} --draws {input.draws:q} --external {input.external:q}"
        " --splits {input.splits:q} --pathways {input.pathways:q} --run {wildcards.run} --out {params.out:q}"
        " --settings {params.settings:q} --seed {params.seed} --threads {threads} 2> {log:q}"
