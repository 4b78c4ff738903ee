"""Every number with n and an interval, beside the other models and the nulls on the same folds.

Reads draws and points of all runs and folds, and the truth. Leaves evaluation/<run>/*.parquet.
"""


rule evaluate:
    input:
        **INPUTS.scored(PATHS.draws),
        others=INPUTS.other_draws,
        search=INPUTS.searches,
    output:
        summary=PATHS.evaluation("summary"),
        genes=PATHS.evaluation("genes"),
        calibration=PATHS.evaluation("calibration"),
        pathways=PATHS.evaluation("pathways"),
        samples=PATHS.evaluation("samples"),
        examples=PATHS.evaluation("examples"),
        search=PATHS.evaluation("search"),
        conformal=PATHS.evaluation("conformal"),
        conformal_factors=PATHS.evaluation("conformal_factors"),
        coexpression=PATHS.evaluation("coexpression"),
        pathway_intervals=PATHS.evaluation("pathway_intervals"),
    log:
        PATHS.log("evaluate-{run}"),
    benchmark:
        PATHS.benchmark("evaluate-{run}")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        models=ARGUMENTS.models,
        settings=PARAMS.section("evaluate"),
        others=ARGUMENTS.others,
        out=subpath(output.summary, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/evaluate.py --draws {input.draws:q} --models {params.models:q}"
        " {params.others} --search {input.search:q}"
        " --bags {input.bags:q} --expression {input.expression:q} --slides {input.slides:q}"
        " --splits {input.splits:q} --cohort {input.cohort:q} --pathways {input.pathways:q}"
        " --run {wildcards.run} --out {params.out:q} --settings {params.settings:q}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
