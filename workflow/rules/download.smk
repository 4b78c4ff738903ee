"""Slides on disk and checked, one job per shard; then the leak guard over all of them.

Reads slides.parquet. Leaves slides/shard-<i>.parquet (path, measured md5 and size) and guard.json.
Fetched slides go to slides/files, which isn't declared: a job that is killed goes on where it was.
"""


rule download:
    """Fetches a shard's slides; local ones are only checked."""
    input:
        PATHS.slides,
    output:
        PATHS.slides_shard,
    log:
        PATHS.log("download-{shard}"),
    benchmark:
        PATHS.benchmark("download-{shard}")
    wildcard_constraints:
        cohort=any_of(PLAN.kept),
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(1000),
        runtime=runtime(720),
        # A resource, since a changed number must not rerun the job; the profile caps the sum.
        downloads=ARGUMENTS.downloads,
    params:
        scripts=SCRIPTS,
        folder=untracked(ARGUMENTS.slides_folder),
        code=STEP_VERSIONS["download"],
        shards=PARAMS.block("shards"),
        stamps=STAMPS.slides,
        # Of slides that are another server's, slides.parquet says so.
        server=untracked(ARGUMENTS.server),
    shell:
        "python {params.scripts}/download.py --slides {input:q} {params.folder} --shard {wildcards.shard}"
        " --shards {params.shards} --out {output:q} --downloads {resources.downloads}"
        " {params.server} 2> {log:q}"


rule guard:
    """Stops the run if a split unit, or the same slide twice, sits in two parts of a fold."""
    input:
        shards=INPUTS.every_shard(PATHS.slides_shard),
        splits=PATHS.splits,
    output:
        PATHS.guard,
    log:
        PATHS.log("guard"),
    benchmark:
        PATHS.benchmark("guard")
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(1000),
        runtime=runtime(30),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["download"],
    shell:
        "python {params.scripts}/split.py guard --shards {input.shards:q} --splits {input.splits:q}"
        " --out {output:q} 2> {log:q}"
