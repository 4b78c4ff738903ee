"""Download, tiles and features as one job per shard, for cohorts with keep_slides: false.

Reads slides.parquet. Leaves the manifests and files of those three stages; each downloaded slide
is deleted as soon as its features are there, and at most `downloads` are on disk at any moment.
"""

# One rule each, since the encoder's name is no wildcard of the other two tables.
for streamed in PLAN.streamed:

    rule:
        name:
            f"consume_{streamed}"
        input:
            slides=PATHS.slides,
            weights=INPUTS.cohort_encoder_weights,
        output:
            slides=PATHS.slides_shard,
            tiles=PATHS.tiles_shard,
            features=PATHS.features_of(PLAN.cohorts[streamed].reported.encoder),
        log:
            PATHS.log("consume-{shard}"),
        benchmark:
            PATHS.benchmark("consume-{shard}")
        wildcard_constraints:
            cohort=re.escape(streamed),
        conda:
            GPU_ENV
        threads: CONFIG["threads"]["features"]
        resources:
            mem_mb=mem_mb(4000),
            runtime=runtime(1440),
            gpu=GPU,
            downloads=ARGUMENTS.downloads,
        params:
            scripts=SCRIPTS,
            folder=untracked(ARGUMENTS.slides_folder),
            code=[STEP_VERSIONS[stage] for stage in ("download", "tiles", "features")],
            shards=PARAMS.block("shards"),
            stamps=STAMPS.slides,
            settings=untracked(PARAMS.cohort_features),
            deciding=PARAMS.deciding("features", PARAMS.cohort_features),
            tile_settings=PARAMS.section("tiles"),
            seed=CONFIG["seed"],
            device=CONFIG["device"],
            server=untracked(ARGUMENTS.server),
        shell:
            "python {params.scripts}/consume.py --slides {input.slides:q} {params.folder} --shard {wildcards.shard}"
            " --shards {params.shards} --slides-manifest {output.slides:q}"
            " --tiles-manifest {output.tiles:q} --features-manifest {output.features:q}"
            " --settings {params.settings:q} --tile-settings {params.tile_settings:q}"
            " --seed {params.seed} --device {params.device} --threads {threads}"
            " --downloads {resources.downloads} {params.server} 2> {log:q}"
