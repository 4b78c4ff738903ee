"""A slide as k cluster means with their sizes.

Reads all features of a cohort. Leaves bags/<encoder>.safetensors and, where a run trains on
resampled bags, bags/<encoder>/resamples-<number>-<share>.safetensors.
"""


rule bags:
    input:
        lambda wildcards: shards(wildcards.cohort, f"features/{wildcards.encoder}"),
    output:
        f"{RESULTS}/{{cohort}}/bags/{{encoder}}.safetensors",
    log:
        f"{RESULTS}/{{cohort}}/logs/bags-{{encoder}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/bags-{{encoder}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["bags"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(120),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["bags"],
        settings=bag_settings,
        features_as=feature_form,
        # The report checks it again.
        max_failed=untracked(
            lambda wildcards: SETTINGS[wildcards.cohort]["max_failed_slides"]
        ),
        features=subpath(input[0], parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/bag.py --features {params.features:q} --manifests {input:q}"
        " --out {output:q} --settings {params.settings:q}"
        " --feature-settings {params.features_as:q} --max-failed {params.max_failed}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"


rule resample:
    input:
        lambda wildcards: shards(wildcards.cohort, f"features/{wildcards.encoder}"),
    output:
        f"{RESULTS}/{{cohort}}/bags/{{encoder}}/resamples-{{number}}-{{share}}.safetensors",
    log:
        f"{RESULTS}/{{cohort}}/logs/resample-{{encoder}}-{{number}}-{{share}}.log",
    benchmark:
        f"{RESULTS}/{{cohort}}/benchmarks/resample-{{encoder}}-{{number}}-{{share}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["bags"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(480),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["bags"],
        settings=resample_settings,
        features_as=feature_form,
        # The report checks it again.
        max_failed=untracked(
            lambda wildcards: SETTINGS[wildcards.cohort]["max_failed_slides"]
        ),
        features=subpath(input[0], parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/bag.py --resampled --features {params.features:q}"
        " --manifests {input:q} --out {output:q} --settings {params.settings:q}"
        " --feature-settings {params.features_as:q} --max-failed {params.max_failed}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
