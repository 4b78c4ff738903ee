"""What the published fold pairing is worth: the same models under it and under the clean one.

Reads a cohort's bags and tables, once the guard has passed them. Leaves leak_audit/audit.parquet and
its figure. `snakemake leak_audit` makes them for every cohort; nothing else asks for them.
"""


rule leak_audit:
    input:
        [f"{RESULTS}/{cohort}/leak_audit/audit.parquet" for cohort in COHORTS],


rule audit_pairings:
    """Fits each model under both pairings, scores it on the same test folds, and keeps no model."""
    input:
        bags=lambda wildcards: f"{RESULTS}/{wildcards.cohort}/bags/{encoder(wildcards.cohort)}.safetensors",
        expression=f"{RESULTS}/{{cohort}}/expression.parquet",
        slides=f"{RESULTS}/{{cohort}}/slides.parquet",
        splits=f"{RESULTS}/{{cohort}}/splits.tsv",
        cohort=f"{RESULTS}/{{cohort}}/cohort.json",
        guard=f"{RESULTS}/{{cohort}}/guard.json",
        pathways=audited_sets,
    output:
        table=f"{RESULTS}/{{cohort}}/leak_audit/audit.parquet",
        figures=multiext(f"{RESULTS}/{{cohort}}/leak_audit/leak_audit", ".png", ".svg"),
    log:
        f"{RESULTS}/{{cohort}}/logs/leak_audit.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/leak_audit.tsv"
    conda:
        GPU_ENV
    threads: CONFIG["threads"]["evaluate"]
    resources:
        mem_mb=mem_mb(8000),
        runtime=runtime(1440),
        gpu=lambda wildcards: GPU if audited(wildcards.cohort) else 0,
    params:
        scripts=SCRIPTS,
        code=[STEP_VERSIONS["train"], STEP_VERSIONS["evaluate"]],
        folder=subpath(input.cohort, parent=True),
        settings=settings("leak_audit"),
        evaluate=settings("evaluate"),
        networks=untracked(audited_networks),
        deciding=lambda wildcards: audited_networks(
            wildcards, configuration.result_settings
        ),
        sets=lambda wildcards, input: (
            f"--pathways {shlex.quote(str(input.pathways))}" if input.pathways else ""
        ),
        device=CONFIG["device"],
        out=subpath(output.table, parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/leak_audit.py --cohort {params.folder:q} --bags {input.bags:q}"
        " --out {params.out:q} --settings {params.settings:q} --evaluate {params.evaluate:q}"
        " --networks {params.networks:q} {params.sets} --device {params.device}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
