"""Tissue mask and tile coordinates, one job per shard.

Reads a shard's slides. Leaves tiles/<slide>.parquet with its pictures, and tiles/shard-<i>.parquet.
The per-slide files are not declared: a job that is killed goes on with the next slide.
"""


rule tiles:
    input:
        PATHS.slides_shard,
    output:
        PATHS.tiles_shard,
    log:
        PATHS.log("tiles-{shard}"),
    benchmark:
        PATHS.benchmark("tiles-{shard}")
    wildcard_constraints:
        cohort=any_of(PLAN.kept),
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["tiles"]
    resources:
        mem_mb=mem_mb(2000),
        runtime=runtime(240),
    params:
        scripts=SCRIPTS,
        folder=untracked(ARGUMENTS.slides_folder),
        code=STEP_VERSIONS["tiles"],
        settings=PARAMS.section("tiles"),
        out=subpath(output[0], parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/tile.py --shard {input:q} {params.folder} --out {params.out:q} --manifest {output:q}"
        " --settings {params.settings:q} --seed {params.seed} 2> {log:q}"
