"""Variants of a cohort's first model, trained and scored beside it.

`snakemake ablations` makes the table of every cohort that has any; nothing else asks for them,
unless `extras` has the report show them. Leaves ablations/<run>/ with two tables and a figure.
"""


rule ablations:
    input:
        TARGETS.ablations,


rule score_ablations:
    input:
        **INPUTS.scored(PATHS.draws),
        others=INPUTS.ablation_draws,
    output:
        table=PATHS.ablations,
        pathways=PATHS.ablation_pathways,
        figures=multiext(PATHS.ablation_figure, ".png", ".svg"),
    log:
        PATHS.log("ablations-{run}"),
    benchmark:
        PATHS.benchmark("ablations-{run}")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(8000),
        runtime=runtime(240),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["evaluate"],
        models=ARGUMENTS.models,
        variants=PARAMS.ablations,
        settings=PARAMS.section("evaluate"),
        out=subpath(output.table, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/ablations.py --draws {input.draws:q} --models {params.models:q}"
        " --others {input.others:q} --variants {params.variants:q}"
        " --bags {input.bags:q} --expression {input.expression:q} --slides {input.slides:q}"
        " --splits {input.splits:q} --cohort {input.cohort:q} --pathways {input.pathways:q}"
        " --out {params.out:q} --settings {params.settings:q}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
