"""The weights of the default encoder as one file, for all cohorts.

Leaves weights/lite0.pth. It runs where Snakemake was started: of all jobs that read it, none needs
the net.
"""


rule weights:
    output:
        f"{RESULTS}/weights/lite0.pth",
    log:
        f"{RESULTS}/weights/lite0.log",
    benchmark:
        f"{RESULTS}/weights/lite0.tsv"
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
