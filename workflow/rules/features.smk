"""Tile features, one job per shard: the encoder is loaded once for many slides.

Reads a shard's slides and tiles and the encoder's weights, or a lab's own h5 files. Leaves features/<encoder>/<slide>.h5
(not declared, so that a killed job goes on) and features/<encoder>/shard-<i>.parquet.
"""


rule features:
    input:
        shard=PATHS.slides_shard,
        tiles=INPUTS.tiles,
        weights=INPUTS.encoder_weights,
    output:
        PATHS.features_shard,
    log:
        PATHS.log("features-{encoder}-{shard}"),
    benchmark:
        PATHS.benchmark("features-{encoder}-{shard}")
    wildcard_constraints:
        cohort=any_of(PLAN.kept),
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["features"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(720),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        folder=untracked(ARGUMENTS.slides_folder),
        code=STEP_VERSIONS["features"],
        settings=untracked(PARAMS.features),
        deciding=PARAMS.deciding("features", PARAMS.features),
        tile_settings=PARAMS.section("tiles"),
        tiles=ARGUMENTS.tiles,
        stamps=STAMPS.features,
        own_weights=STAMPS.tables(INPUTS.own_weights),
        planned=untracked(STAMPS.cache),
        out=subpath(output[0], parent=True),
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/extract.py --shard {input.shard:q} {params.folder} {params.tiles} --out {params.out:q}"
        " {params.planned} --manifest {output:q} --settings {params.settings:q}"
        " --tile-settings {params.tile_settings:q} --device {params.device}"
        " --threads {threads} 2> {log:q}"
