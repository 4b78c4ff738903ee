"""What the published fold pairing is worth: the same models under it and under the clean one.

Reads a cohort's bags and tables, once the guard has passed them. Leaves leak_audit/audit.parquet and
its figure. `snakemake leak_audit` makes them for every cohort; nothing else asks for them.
"""


rule leak_audit:
    input:
        TARGETS.leak_audits,


rule audit_pairings:
    """Fits each model under both pairings, scores it on the same test folds, and keeps no model."""
    input:
        bags=INPUTS.reported_bags,
        expression=PATHS.expression,
        slides=PATHS.slides,
        splits=PATHS.splits,
        cohort=PATHS.cohort,
        guard=PATHS.guard,
        pathways=INPUTS.audited_gene_sets,
    output:
        table=PATHS.leak_audit,
        figures=multiext(PATHS.leak_audit_figure, ".png", ".svg"),
    log:
        PATHS.log("leak_audit"),
    benchmark:
        PATHS.benchmark("leak_audit")
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(8000),
        runtime=runtime(1440),
        gpu=lambda wildcards: GPU if PLAN.cohort(wildcards).audited else 0,
    params:
        scripts=SCRIPTS,
        code=[STEP_VERSIONS["train"], STEP_VERSIONS["evaluate"]],
        folder=subpath(input.cohort, parent=True),
        settings=PARAMS.section("leak_audit"),
        evaluate=PARAMS.section("evaluate"),
        networks=untracked(PARAMS.audited),
        deciding=PARAMS.deciding_audited,
        sets=ARGUMENTS.gene_sets,
        device=CONFIG["device"],
        out=subpath(output.table, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/leak_audit.py --cohort {params.folder:q} --bags {input.bags:q}"
        " --out {params.out:q} --settings {params.settings:q} --evaluate {params.evaluate:q}"
        " --networks {params.networks:q} {params.sets} --device {params.device}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
