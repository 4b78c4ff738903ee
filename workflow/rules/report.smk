"""One page per cohort, with its figures.

Reads what all stages left. Leaves report/index.html (self-contained) and report/figures/.
"""


rule report:
    input:
        report_inputs,
        truth=truth_made,
    output:
        page=report(
            f"{RESULTS}/{{cohort}}/report/index.html",
            caption="../report/report.rst",
            category="Reports",
            labels={"cohort": "{cohort}"},
        ),
        figures=directory(f"{RESULTS}/{{cohort}}/report/figures"),
    log:
        f"{RESULTS}/{{cohort}}/logs/report.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/report.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["report"],
        cohort=lambda wildcards: f"{RESULTS}/{wildcards.cohort}",
        run=lambda wildcards: run_name(wildcards.cohort),
        encoder=lambda wildcards: encoder(wildcards.cohort),
        set=lambda wildcards: pathway_set(wildcards.cohort),
        extras=lambda wildcards: SETTINGS[wildcards.cohort]["extras"],
        folds=lambda wildcards: len(folds(wildcards.cohort)),
        settings=report_settings,
        shards=lambda wildcards: CONFIG["cohorts"][wildcards.cohort]["shards"],
        # The table lies beside the mark; elsewhere nothing is given.
        truth=lambda wildcards: shlex.join(
            word
            for mark in truth_made(wildcards)
            for word in ("--truth", str(Path(mark).with_name("truth_genes.parquet")))
        ),
        out=subpath(output.page, parent=True),
    shell:
        "python {params.scripts}/report.py --cohort-dir {params.cohort:q} --run {params.run}"
        " --features {params.encoder} --pathways {params.set} --settings {params.settings:q}"
        " --extras {params.extras} --folds {params.folds} --shards {params.shards} {params.truth}"
        " --out {params.out:q} 2> {log:q}"
