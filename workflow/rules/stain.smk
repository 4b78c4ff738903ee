"""How far predictions move when tiles are stained, scanned or compressed otherwise.

`snakemake stain` makes the tables of every cohort that still has its slides; nothing else asks for
them, unless `extras` has the report show them. Leaves stain/<run>/ with three tables.
"""


rule stain:
    input:
        in_one_line(TARGETS.stain),


rule perturb:
    input:
        models=INPUTS.every_fold(PATHS.model),
        weights=INPUTS.every_fold(PATHS.model_weights),
        draws=INPUTS.every_fold(PATHS.draws),
        judged=INPUTS.every_fold(PATHS.shift),
        familiar=INPUTS.every_fold(PATHS.shift_reference),
        slides=INPUTS.every_shard(PATHS.slides_shard),
        tiles=INPUTS.every_shard(PATHS.tiles_shard),
        cohort=PATHS.cohort,
        encoder=INPUTS.run_encoder_weights,
    output:
        table=PATHS.stain,
        slides=PATHS.stain_slides,
        genes=PATHS.stain_genes,
    log:
        PATHS.log("stain-{run}"),
    benchmark:
        PATHS.benchmark("stain-{run}")
    wildcard_constraints:
        cohort=any_of(PLAN.kept),
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["features"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        folder=untracked(ARGUMENTS.slides_folder),
        code=[STEP_VERSIONS[stage] for stage in ("features", "sample", "evaluate")],
        models=ARGUMENTS.models,
        features=untracked(PARAMS.run_features),
        sample=untracked(PARAMS.run_section("sample")),
        deciding_features=PARAMS.deciding("features", PARAMS.run_features),
        deciding_sample=PARAMS.deciding("sample", PARAMS.run_section("sample")),
        tiles=PARAMS.section("tiles"),
        bags=PARAMS.bags,
        shift=PARAMS.section("shift"),
        stain=PARAMS.section("stain"),
        out=subpath(output.table, parent=True),
        seed=CONFIG["seed"],
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/stain.py --models {params.models:q} --draws {input.draws:q}"
        " --judged {input.judged:q} --familiar {input.familiar:q} --slides {input.slides:q} {params.folder}"
        " --tiles {input.tiles:q} --cohort {input.cohort:q} --run {wildcards.run}"
        " --out {params.out:q} --features-settings {params.features:q}"
        " --tiles-settings {params.tiles:q} --bags-settings {params.bags:q}"
        " --sample-settings {params.sample:q} --stain-settings {params.stain:q}"
        " --shift-settings {params.shift:q} --seed {params.seed} --device {params.device}"
        " --threads {threads} 2> {log:q}"
