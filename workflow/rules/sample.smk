"""Draws and points for the val, cal and test slides of a fold.

Reads a fold's model and the bags. Leaves draws/<run>/fold-<k>.zarr and its summary.
"""


rule sample:
    input:
        model=INPUTS.trained(PATHS.model),
        weights=INPUTS.trained(PATHS.model_weights),
        bags=INPUTS.bags,
        slides=PATHS.slides,
        splits=PATHS.splits,
    output:
        draws=directory(PATHS.draws),
        summary=PATHS.draw_summary,
    log:
        PATHS.log("sample-{run}-{fold}"),
    benchmark:
        PATHS.benchmark("sample-{run}-{fold}")
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["sample"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["sample"],
        model=subpath(input.model, parent=True),
        label=PARAMS.run("label"),
        settings=untracked(PARAMS.sampling),
        deciding=PARAMS.deciding("sample", PARAMS.sampling),
        seed=PARAMS.run("seed"),
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/sample.py --model {params.model:q} --bags {input.bags:q}"
        " --slides {input.slides:q} --splits {input.splits:q} --fold {wildcards.fold}"
        " --label {params.label} --out {output.draws:q} --summary {output.summary:q} --settings {params.settings:q}"
        " --seed {params.seed} --device {params.device} --threads {threads} 2> {log:q}"
