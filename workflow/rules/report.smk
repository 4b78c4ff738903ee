"""One page per cohort, with its figures.

Reads what all stages left. Leaves report/index.html (self-contained) and report/figures/.
"""


rule report:
    input:
        INPUTS.report,
        truth=INPUTS.truth_mark,
    output:
        page=report(
            PATHS.report,
            caption="../report/report.rst",
            category="Reports",
            labels={"cohort": "{cohort}"},
        ),
        figures=directory(PATHS.report_figures),
    log:
        PATHS.log("report"),
    benchmark:
        PATHS.benchmark("report")
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(60),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["report"],
        cohort=PARAMS.folder,
        run=PARAMS.reported("name"),
        encoder=PARAMS.reported("encoder"),
        set=PARAMS.reported("pathways"),
        extras=PARAMS.setting("extras"),
        folds=PARAMS.folds,
        settings=PARAMS.report,
        shards=PARAMS.block("shards"),
        truth=ARGUMENTS.truth,
        out=subpath(output.page, parent=True),
    shell:
        "python {params.scripts}/report.py --cohort-dir {params.cohort:q} --run {params.run}"
        " --features {params.encoder} --pathways {params.set} --settings {params.settings:q}"
        " --extras {params.extras} --folds {params.folds} --shards {params.shards} {params.truth}"
        " --out {params.out:q} 2> {log:q}"
