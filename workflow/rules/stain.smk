"""How far predictions move when tiles are stained, scanned or compressed otherwise.

`snakemake stain` makes the tables of every cohort that still has its slides; nothing else asks for
them, unless `extras` has the report show them. Leaves stain/<run>/ with three tables.
"""


rule stain:
    input:
        stain_tables,


rule perturb:
    input:
        models=fold_paths(
            f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.json"
        ),
        weights=fold_paths(
            f"{RESULTS}/{{cohort}}/models/{{run}}/fold-{{fold}}/model.safetensors"
        ),
        draws=fold_paths(f"{RESULTS}/{{cohort}}/draws/{{run}}/fold-{{fold}}.zarr"),
        judged=fold_paths(f"{RESULTS}/{{cohort}}/shift/{{run}}/fold-{{fold}}.parquet"),
        familiar=fold_paths(
            f"{RESULTS}/{{cohort}}/shift/{{run}}/fold-{{fold}}.safetensors"
        ),
        slides=lambda wildcards: shards(wildcards.cohort, "slides"),
        tiles=lambda wildcards: shards(wildcards.cohort, "tiles"),
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
        encoder=lambda wildcards: weights(
            wildcards.cohort, run_of(wildcards).settings["features"]
        ),
    output:
        table=f"{RESULTS}/{{cohort}}/stain/{{run}}/stain.parquet",
        slides=f"{RESULTS}/{{cohort}}/stain/{{run}}/slides.parquet",
        genes=f"{RESULTS}/{{cohort}}/stain/{{run}}/genes.parquet",
    log:
        f"{RESULTS}/{{cohort}}/logs/stain-{{run}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/stain-{{run}}.tsv"
    wildcard_constraints:
        cohort=KEPT,
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["features"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(240),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        code=[STEP_VERSIONS[stage] for stage in ("features", "sample", "evaluate")],
        models=lambda wildcards, input: [
            str(Path(model).parent) for model in input.models
        ],
        features=untracked(run_features),
        sample=untracked(run_settings("sample")),
        deciding_features=deciding("features", run_features),
        deciding_sample=deciding("sample", run_settings("sample")),
        tiles=settings("tiles"),
        bags=bag_settings,
        shift=settings("shift"),
        stain=settings("stain"),
        out=subpath(output.table, parent=True),
        seed=CONFIG["seed"],
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/stain.py --models {params.models:q} --draws {input.draws:q}"
        " --judged {input.judged:q} --familiar {input.familiar:q} --slides {input.slides:q}"
        " --tiles {input.tiles:q} --cohort {input.cohort:q} --run {wildcards.run}"
        " --out {params.out:q} --features-settings {params.features:q}"
        " --tiles-settings {params.tiles:q} --bags-settings {params.bags:q}"
        " --sample-settings {params.sample:q} --stain-settings {params.stain:q}"
        " --shift-settings {params.shift:q} --seed {params.seed} --device {params.device}"
        " --threads {threads} 2> {log:q}"
