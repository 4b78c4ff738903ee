"""How far each slide lies from training, and what a run gains by not answering for the farthest.

Reads draws and bags, and expression of the train part. Leaves shift/<run>/fold-<k>.parquet, a
.safetensors beside each by which new slides can be judged, and shift/<run>/abstention.parquet.
"""


rule shift:
    input:
        **INPUTS.tables,
        draws=PATHS.draws,
    output:
        table=PATHS.shift,
        saved=PATHS.shift_reference,
    log:
        PATHS.log("shift-{run}-{fold}"),
    benchmark:
        PATHS.benchmark("shift-{run}-{fold}")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        settings=PARAMS.section("shift"),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/shift.py distances --draws {input.draws:q} --bags {input.bags:q}"
        " --expression {input.expression:q} --slides {input.slides:q} --splits {input.splits:q}"
        " --cohort {input.cohort:q} --run {wildcards.run} --out {output.table:q}"
        " --saved {output.saved:q} --settings {params.settings:q} --seed {params.seed}"
        " --threads {threads} 2> {log:q}"


rule abstain:
    input:
        **INPUTS.tables,
        draws=INPUTS.every_fold(PATHS.draws),
        shift=INPUTS.every_fold(PATHS.shift),
        genes=PATHS.evaluation("genes"),
        samples=PATHS.evaluation("samples"),
    output:
        PATHS.abstention,
    log:
        PATHS.log("abstain-{run}"),
    benchmark:
        PATHS.benchmark("abstain-{run}")
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
        settings=PARAMS.section("shift"),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/shift.py abstention --draws {input.draws:q} --shift {input.shift:q}"
        " --evaluation {params.evaluation:q} --bags {input.bags:q}"
        " --expression {input.expression:q} --slides {input.slides:q} --splits {input.splits:q}"
        " --cohort {input.cohort:q} --run {wildcards.run} --out {output:q}"
        " --settings {params.settings:q} --seed {params.seed} --threads {threads} 2> {log:q}"
