"""Download, tiles and features as one job per shard, for cohorts with keep_slides: false.

Reads slides.parquet. Leaves the manifests and files of those three stages; each downloaded slide
is deleted as soon as its features are there, and at most `downloads` are on disk at any moment.
"""

# One rule each, since the encoder's name is no wildcard of the other two tables.
for thrown in THROWN:

    rule:
        name:
            f"consume_{thrown}"
        input:
            slides=f"{RESULTS}/{{cohort}}/slides.parquet",
            weights=weights(thrown, SETTINGS[thrown]["features"]),
        output:
            slides=f"{RESULTS}/{{cohort}}/slides/shard-{{shard}}.parquet",
            tiles=f"{RESULTS}/{{cohort}}/tiles/shard-{{shard}}.parquet",
            features=f"{RESULTS}/{{cohort}}/features/{encoder(thrown)}/shard-{{shard}}.parquet",
        log:
            f"{RESULTS}/{{cohort}}/logs/consume-{{shard}}.log",
        benchmark:
            f"{RESULTS}/{{cohort}}/benchmarks/consume-{{shard}}.tsv"
        wildcard_constraints:
            cohort=re.escape(thrown),
        conda:
            GPU_ENV
        threads: CONFIG["threads"]["features"]
        resources:
            mem_mb=mem_mb(4000),
            runtime=runtime(1440),
            gpu=GPU,
            downloads=downloads,
        params:
            scripts=SCRIPTS,
            code=[STEP_VERSIONS[stage] for stage in ("download", "tiles", "features")],
            shards=lambda wildcards: CONFIG["cohorts"][wildcards.cohort]["shards"],
            settings=untracked(cohort_features),
            deciding=deciding("features", cohort_features),
            tile_settings=settings("tiles"),
            seed=CONFIG["seed"],
            device=CONFIG["device"],
            server=untracked(server),
        shell:
            "python {params.scripts}/consume.py --slides {input.slides:q} --shard {wildcards.shard}"
            " --shards {params.shards} --slides-manifest {output.slides:q}"
            " --tiles-manifest {output.tiles:q} --features-manifest {output.features:q}"
            " --settings {params.settings:q} --tile-settings {params.tile_settings:q}"
            " --seed {params.seed} --device {params.device} --threads {threads}"
            " --downloads {resources.downloads} {params.server} 2> {log:q}"
