"""The cohort, frozen before anything else runs.

Reads a sample sheet and an expression table, the her2st folder, the generator's output, or GDC.
Leaves slides.parquet, expression.parquet, gene_names.parquet and cohort.json, then splits.tsv; for GDC also the frozen
manifest (outside the results, and no output: Snakemake would delete it) and star/.
"""


rule generate:
    """Draws the demo's slides, or the features of a law's cohort, and their expression."""
    output:
        PATHS.source_mark,
    log:
        PATHS.log("demo"),
    benchmark:
        PATHS.benchmark("demo")
    wildcard_constraints:
        cohort=any_of(PLAN.simulated),
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=mem_mb(2000),
        runtime=runtime(30),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["demo"],
        kind=PARAMS.block("source"),
        out=subpath(output[0], parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/demo.py --kind {params.kind} --out {params.out:q}"
        " --seed {params.seed} --workers {threads} 2> {log:q}"


rule cohort:
    """Slides and expression as tables; what was dropped and why."""
    input:
        INPUTS.source_mark,
        # Their content counts, not their time: see `read`.
        ancient(INPUTS.user_files),
    output:
        slides=PATHS.slides,
        expression=PATHS.expression,
        names=PATHS.gene_names,
        cohort=PATHS.cohort,
    log:
        PATHS.log("cohort"),
    benchmark:
        PATHS.benchmark("cohort")
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["cohort"],
        source=PARAMS.source,
        read=STAMPS.tables(INPUTS.user_files),
        manifest=STAMPS.manifest,
        folds=ARGUMENTS.published_folds,
        out=subpath(output.cohort, parent=True),
        slides=ARGUMENTS.needs_slides,
    shell:
        "python {params.scripts}/cohort.py --name {wildcards.cohort} --source {params.source:q}"
        " --no-folds {params.folds} --out {params.out:q} {params.slides} 2> {log:q}"


rule split:
    """Folds of train, val, cal and test; apart, since other folds need no other slides."""
    input:
        slides=PATHS.slides,
        given=ancient(INPUTS.split_files),
    output:
        splits=PATHS.splits,
        digest=PATHS.splits_digest,
    log:
        PATHS.log("split"),
    benchmark:
        PATHS.benchmark("split")
    # First of what can be done: a wrong split is reported before hours of work.
    priority: 10
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(1000),
        runtime=runtime(30),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["cohort"],
        given=ARGUMENTS.given_split,
        read=STAMPS.tables(INPUTS.split_files),
        folds=PARAMS.section("folds"),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/split.py draw --slides {input.slides:q} {params.given}"
        " --folds {params.folds:q} --seed {params.seed} --out {output.splits:q} 2> {log:q}"
