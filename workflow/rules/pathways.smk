"""Gene sets for the cohort's genes, from the pinned GO release or from a file.

Reads expression.parquet for its genes and gene_names.parquet for their current symbols. Leaves pathways/<set>.parquet and pathways/<set>.json.
"""


rule pathways:
    input:
        expression=PATHS.expression,
        names=PATHS.gene_names,
        source=ancient(INPUTS.gene_set_file),
    output:
        sets=PATHS.gene_sets,
        facts=PATHS.gene_set_facts,
    log:
        PATHS.log("pathways-{set}"),
    benchmark:
        PATHS.benchmark("pathways-{set}")
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(2000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["pathways"],
        settings=PARAMS.gene_sets,
        read=STAMPS.tables(INPUTS.gene_set_file),
    shell:
        "python {params.scripts}/pathways.py --expression {input.expression:q} --names {input.names:q}"
        " --out {output.sets:q} --settings {params.settings:q} 2> {log:q}"
