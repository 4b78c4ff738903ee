"""A run for other programs.

`snakemake export` writes, for every cohort, its test samples as AnnData and its slides as a table
that MultiQC shows; nothing else asks for them. Leaves export/<run>.h5ad and
export/<run>_slides_mqc.tsv.
"""


rule export:
    input:
        TARGETS.exports,


rule export_run:
    input:
        tables=[PATHS.evaluation(table) for table in ("samples", "genes")],
        draws=INPUTS.every_fold(PATHS.draws),
        summaries=INPUTS.every_fold(PATHS.draw_summary),
        shift=INPUTS.every_fold(PATHS.shift),
        features=INPUTS.run_feature_shards,
        cohort=[PATHS.slides, PATHS.expression, PATHS.cohort],
    output:
        samples=PATHS.export,
        slides=PATHS.export_slides,
    log:
        PATHS.log("export-{run}"),
    benchmark:
        PATHS.benchmark("export-{run}")
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["export"],
        folder=PARAMS.folder,
        out=subpath(output.samples, parent=True),
    shell:
        "python {params.scripts}/export.py --cohort-dir {params.folder:q} --run {wildcards.run}"
        " --features {input.features:q} --shift {input.shift:q} --out {params.out:q} 2> {log:q}"
