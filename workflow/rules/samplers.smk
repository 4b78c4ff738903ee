"""Other ways to sample a cohort's flow, a one-step student among them, scored beside each other.

`snakemake samplers` makes the table of every cohort whose first model is the flow; nothing else
asks for it, unless `extras` has the report show it. Leaves samplers/<run>/ with a table, a figure,
and the students; the draws are deleted once they are scored.
"""


rule samplers:
    input:
        [
            f"{RESULTS}/{cohort}/samplers/{run_name(cohort)}/samplers.parquet"
            for cohort in COHORTS
            if SAMPLERS[cohort]
        ],


rule distil:
    input:
        model=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json",
        weights=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.safetensors",
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
    output:
        weights=f"{RESULTS}/{{cohort}}/samplers/{{run}}/student/fold-{{fold}}/model.safetensors",
        model=f"{RESULTS}/{{cohort}}/samplers/{{run}}/student/fold-{{fold}}/model.json",
        log=f"{RESULTS}/{{cohort}}/samplers/{{run}}/student/fold-{{fold}}/log.parquet",
    log:
        f"{RESULTS}/{{cohort}}/logs/distil-{{run}}-{{fold}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/distil-{{run}}-{{fold}}.tsv"
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
        teacher=subpath(input.model, parent=True),
        settings=lambda wildcards: json.dumps(
            run_of(wildcards).settings["samplers"]["student"], sort_keys=True
        ),
        out=subpath(output.model, parent=True),
        seed=lambda wildcards: run_of(wildcards).seed,
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/distil.py --model {params.teacher:q} --bags {input.bags:q}"
        " --slides {input.slides:q} --splits {input.splits:q} --fold {wildcards.fold}"
        " --out {params.out:q} --settings {params.settings:q} --seed {params.seed}"
        " --device {params.device} --threads {threads} 2> {log:q}"


rule sample_variants:
    input:
        model=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json",
        weights=f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.safetensors",
        student=lambda wildcards: (
            [
                f"{RESULTS}/{{cohort}}/samplers/{{run}}/student/fold-{{fold}}/{name}"
                for name in ("model.json", "model.safetensors")
            ]
            if any(sampler.student for sampler in SAMPLERS[wildcards.cohort])
            else []
        ),
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
    output:
        temp(directory(f"{RESULTS}/{{cohort}}/samplers/{{run}}/draws/fold-{{fold}}")),
    log:
        f"{RESULTS}/{{cohort}}/logs/sample_variants-{{run}}-{{fold}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/sample_variants-{{run}}-{{fold}}.tsv"
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["sample"]
    resources:
        mem_mb=mem_mb(8000),
        runtime=runtime(720),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["sample"],
        model=subpath(input.model, parent=True),
        student=lambda wildcards, input: (
            f"--student {shlex.quote(str(Path(input.student[0]).parent))}"
            if input.student
            else ""
        ),
        label=lambda wildcards: run_of(wildcards).label,
        samplers=untracked(sampler_settings),
        deciding=lambda wildcards: sampler_settings(
            wildcards, configuration.result_settings
        ),
        seed=lambda wildcards: run_of(wildcards).seed,
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/sample_variants.py --model {params.model:q} {params.student}"
        " --bags {input.bags:q} --slides {input.slides:q} --splits {input.splits:q}"
        " --fold {wildcards.fold} --label {params.label} --out {output:q}"
        " --samplers {params.samplers:q} --seed {params.seed} --device {params.device}"
        " --threads {threads} 2> {log:q}"


rule score_samplers:
    input:
        draws=fold_paths(f"{RESULTS}/{{cohort}}/samplers/{{run}}/draws/fold-{{fold}}"),
        models=fold_paths(
            f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json"
        ),
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{run_of(wildcards).encoder}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
        pathways=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/pathways/{run_of(wildcards).pathways}.parquet",
    output:
        table=f"{RESULTS}/{{cohort}}/samplers/{{run}}/samplers.parquet",
        figures=multiext(
            f"{RESULTS}/{{cohort}}/samplers/{{run}}/samplers", ".png", ".svg"
        ),
    log:
        f"{RESULTS}/{{cohort}}/logs/samplers-{{run}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/samplers-{{run}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        draws=lambda wildcards, input: drawn_by(input, SAMPLERS[wildcards.cohort][:1]),
        others=lambda wildcards, input: drawn_by(input, SAMPLERS[wildcards.cohort][1:]),
        models=lambda wildcards, input: [
            str(Path(model).parent) for model in input.models
        ],
        samplers=lambda wildcards: json.dumps(
            [
                [
                    f"{run_of(wildcards).label}.{sampler.name}",
                    sampler.name,
                    *(
                        sampler.settings[key]
                        for key in ("solver", "steps", "guidance")
                    ),
                ]
                for sampler in SAMPLERS[wildcards.cohort]
            ]
        ),
        settings=settings("evaluate"),
        out=subpath(output.table, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/samplers.py --draws {params.draws:q} --models {params.models:q}"
        " --others {params.others:q} --samplers {params.samplers:q}"
        " --bags {input.bags:q} --expression {input.expression:q} --slides {input.slides:q}"
        " --splits {input.splits:q} --cohort {input.cohort:q} --pathways {input.pathways:q}"
        " --out {params.out:q} --settings {params.settings:q}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
