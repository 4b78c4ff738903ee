"""Tile features, one job per shard: the encoder is loaded once for many slides.

Reads a shard's slides and tiles and the encoder's weights, or a lab's own h5 files. Leaves features/<encoder>/<slide>.h5
(not declared, so that a killed job goes on) and features/<encoder>/shard-<i>.parquet.
"""


rule features:
    input:
        shard=f"{RESULTS}/{{cohort}}/slides/shard-{{shard}}.parquet",
        tiles=tile_manifest,
        weights=lambda wildcards: weights(
            wildcards.cohort, FEATURES[wildcards.cohort][wildcards.encoder]
        ),
    output:
        f"{RESULTS}/{{cohort}}/features/{{encoder}}/shard-{{shard}}.parquet",
    log:
        f"{RESULTS}/{{cohort}}/logs/features-{{encoder}}-{{shard}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/features-{{encoder}}-{{shard}}.tsv"
    wildcard_constraints:
        cohort=KEPT,
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["features"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(720),
        gpu=GPU,
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["features"],
        settings=untracked(feature_settings),
        deciding=deciding("features", feature_settings),
        tile_settings=settings("tiles"),
        tiles=tile_arguments,
        out=subpath(output[0], parent=True),
        device=CONFIG["device"],
    shell:
        "python {params.scripts}/extract.py --shard {input.shard:q} {params.tiles} --out {params.out:q}"
        " --manifest {output:q} --settings {params.settings:q}"
        " --tile-settings {params.tile_settings:q} --device {params.device}"
        " --threads {threads} 2> {log:q}"
