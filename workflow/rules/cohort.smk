"""The cohort, frozen before anything else runs.

Reads a sample sheet and an expression table, the her2st folder, the generator's output, or GDC.
Leaves slides.parquet, expression.parquet, gene_names.parquet and cohort.json, then splits.tsv; for GDC also the frozen
manifest (outside the results, and no output: Snakemake would delete it) and star/.
"""


rule generate:
    """Draws the demo's slides, or the features of a law's cohort, and their expression."""
    output:
        f"{RESULTS}/{{cohort}}/source/done.json",
    log:
        f"{RESULTS}/{{cohort}}/logs/demo.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/demo.tsv"
    wildcard_constraints:
        cohort="|".join(map(re.escape, GENERATED)) or "none",
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=mem_mb(2000),
        runtime=runtime(30),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["demo"],
        kind=lambda wildcards: CONFIG["cohorts"][wildcards.cohort]["source"],
        out=subpath(output[0], parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/demo.py --kind {params.kind} --out {params.out:q}"
        " --seed {params.seed} --workers {threads} 2> {log:q}"


rule cohort:
    """Slides and expression as tables; what was dropped and why."""
    input:
        cohort_files,
    output:
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        names=f"{RESULTS}/{{cohort}}/gene_names.parquet",
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
    log:
        f"{RESULTS}/{{cohort}}/logs/cohort.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/cohort.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["cohort"],
        source=source_block,
        folds=published_folds,
        out=subpath(output.cohort, parent=True),
        slides=needs_slides,
    shell:
        "python {params.scripts}/cohort.py --name {wildcards.cohort} --source {params.source:q}"
        " --no-folds {params.folds} --out {params.out:q} {params.slides} 2> {log:q}"


rule split:
    """Folds of train, val, cal and test; apart, since other folds need no other slides."""
    input:
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        given=split_files,
    output:
        f"{RESULTS}/{{cohort}}/splits.tsv",
    log:
        f"{RESULTS}/{{cohort}}/logs/split.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/split.tsv"
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
        given=given_splits,
        folds=settings("folds"),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/split.py --slides {input.slides:q} {params.given}"
        " --folds {params.folds:q} --seed {params.seed} --out {output:q} 2> {log:q}"
