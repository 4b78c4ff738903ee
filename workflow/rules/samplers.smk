"""Other ways to sample a cohort's flow, a one-step student among them, scored beside each other.

`snakemake samplers` makes the table of every cohort whose first model is the flow; nothing else
asks for it, unless `extras` has the report show it. Leaves samplers/<run>/ with a table, a figure,
and the students; the draws are deleted once they are scored.
"""


rule samplers:
    input:
        TARGETS.samplers,


rule distil:
    input:
        model=PATHS.model,
        weights=PATHS.model_weights,
        bags=INPUTS.bags,
        slides=PATHS.slides,
        splits=PATHS.splits,
    output:
        weights=PATHS.student_weights,
        model=PATHS.student,
        log=PATHS.student_log,
    log:
        PATHS.log("distil-{run}-{fold}"),
    benchmark:
        PATHS.benchmark("distil-{run}-{fold}")
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
        settings=PARAMS.student,
        out=subpath(output.model, parent=True),
        seed=PARAMS.run("seed"),
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/samplers.py student --model {params.teacher:q} --bags {input.bags:q}"
        " --slides {input.slides:q} --splits {input.splits:q} --fold {wildcards.fold}"
        " --out {params.out:q} --settings {params.settings:q} --seed {params.seed}"
        " --device {params.device} --threads {threads} 2> {log:q}"


rule sample_variants:
    input:
        model=PATHS.model,
        weights=PATHS.model_weights,
        student=INPUTS.student,
        bags=INPUTS.bags,
        slides=PATHS.slides,
        splits=PATHS.splits,
    output:
        temp(directory(PATHS.sampler_draws)),
    log:
        PATHS.log("sample_variants-{run}-{fold}"),
    benchmark:
        PATHS.benchmark("sample_variants-{run}-{fold}")
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
        student=ARGUMENTS.student,
        label=PARAMS.run("label"),
        samplers=untracked(PARAMS.samplers),
        deciding=PARAMS.deciding_samplers,
        seed=PARAMS.run("seed"),
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/samplers.py draw --model {params.model:q} {params.student}"
        " --bags {input.bags:q} --slides {input.slides:q} --splits {input.splits:q}"
        " --fold {wildcards.fold} --label {params.label} --out {output:q}"
        " --samplers {params.samplers:q} --seed {params.seed} --device {params.device}"
        " --threads {threads} 2> {log:q}"


rule score_samplers:
    input:
        **INPUTS.scored(PATHS.sampler_draws),
    output:
        table=PATHS.samplers,
        figures=multiext(PATHS.sampler_figure, ".png", ".svg"),
    log:
        PATHS.log("samplers-{run}"),
    benchmark:
        PATHS.benchmark("samplers-{run}")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        draws=ARGUMENTS.reference_draws,
        others=ARGUMENTS.sampler_draws,
        models=ARGUMENTS.models,
        samplers=PARAMS.scored_samplers,
        settings=PARAMS.section("evaluate"),
        out=subpath(output.table, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/samplers.py score --draws {params.draws:q} --models {params.models:q}"
        " --others {params.others:q} --samplers {params.samplers:q}"
        " --bags {input.bags:q} --expression {input.expression:q} --slides {input.slides:q}"
        " --splits {input.splits:q} --cohort {input.cohort:q} --pathways {input.pathways:q}"
        " --out {params.out:q} --settings {params.settings:q}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
