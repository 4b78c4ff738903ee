"""A run for other programs.

`snakemake export` writes, for every cohort, its test samples as AnnData and its slides as a table
that MultiQC shows; nothing else asks for them. Leaves export/<run>.h5ad and
export/<run>_slides_mqc.tsv.
"""


rule export:
    input:
        [f"{RESULTS}/{cohort}/export/{run_name(cohort)}.h5ad" for cohort in COHORTS],


rule export_run:
    input:
        tables=[
            f"{RESULTS}/{{cohort}}/evaluation/{{run}}/{table}.parquet"
            for table in ("samples", "genes")
        ],
        draws=fold_paths(f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr"),
        summaries=fold_paths(
            f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.parquet"
        ),
        shift=fold_paths(f"{RESULTS}/{{cohort}}/shift/{{run}}/fold-{{fold}}.parquet"),
        features=lambda wildcards: shards(
            wildcards.cohort, f"features/{run_of(wildcards).encoder}"
        ),
        cohort=[
            f"{RESULTS}/{{cohort}}/{name}"
            for name in ("slides.parquet", "expression.parquet", "cohort.json")
        ],
    output:
        samples=f"{RESULTS}/{{cohort}}/export/{{run}}.h5ad",
        slides=f"{RESULTS}/{{cohort}}/export/{{run}}_slides_mqc.tsv",
    log:
        f"{RESULTS}/{{cohort}}/logs/export-{{run}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/export-{{run}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["export"],
        folder=lambda wildcards: f"{RESULTS}/{wildcards.cohort}",
        out=subpath(output.samples, parent=True),
    shell:
        "python {params.scripts}/export.py --cohort-dir {params.folder:q} --run {wildcards.run}"
        " --features {input.features:q} --shift {input.shift:q} --out {params.out:q} 2> {log:q}"
