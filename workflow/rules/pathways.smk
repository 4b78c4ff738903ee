"""Gene sets for the cohort's genes, from the pinned GO release or from a file.

Reads expression.parquet for its genes and gene_names.parquet for their current symbols. Leaves pathways/<set>.parquet and pathways/<set>.json.
"""


rule pathways:
    input:
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        names=f"{RESULTS}/{{cohort}}/gene_names.parquet",
        source=pathway_file,
    output:
        sets=f"{RESULTS}/{{cohort}}/pathways/{{set}}.parquet",
        facts=f"{RESULTS}/{{cohort}}/pathways/{{set}}.json",
    log:
        f"{RESULTS}/{{cohort}}/logs/pathways-{{set}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/pathways-{{set}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(2000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["pathways"],
        settings=lambda wildcards: json.dumps(
            SETS[wildcards.cohort][wildcards.set], sort_keys=True
        ),
    shell:
        "python {params.scripts}/pathways.py --expression {input.expression:q} --names {input.names:q}"
        " --out {output.sets:q} --settings {params.settings:q} 2> {log:q}"
