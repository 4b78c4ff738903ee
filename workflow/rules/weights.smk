"""The weights of the default encoder as a file.

Leaves weights/lite0.pth, a cohort's own, so that two cohorts can be run beside each other. It runs
where Snakemake was started: of all jobs that read it, none needs the net.
"""


rule weights:
    output:
        PATHS.lite0_weights,
    log:
        PATHS.log("weights"),
    benchmark:
        PATHS.benchmark("weights")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(500),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["weights"],
    shell:
        "python {params.scripts}/weights.py --out {output:q} 2> {log:q}"
