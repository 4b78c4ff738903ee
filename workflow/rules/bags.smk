"""A slide as k cluster means with their sizes.

Reads all features of a cohort. Leaves bags/<encoder>.safetensors and, where a run trains on
resampled bags, bags/<encoder>/resamples-<number>-<share>.safetensors.
"""


rule bags:
    input:
        INPUTS.feature_shards,
    output:
        PATHS.bags,
    log:
        PATHS.log("bags-{encoder}"),
    benchmark:
        PATHS.benchmark("bags-{encoder}")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["bags"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(120),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["bags"],
        settings=PARAMS.bags,
        features_as=PARAMS.feature_form,
        # The report checks it again.
        max_failed=untracked(PARAMS.setting("max_failed_slides")),
        features=subpath(input[0], parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/bag.py --features {params.features:q} --manifests {input:q}"
        " --out {output:q} --settings {params.settings:q}"
        " --feature-settings {params.features_as:q} --max-failed {params.max_failed}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"


rule resample:
    input:
        INPUTS.feature_shards,
    output:
        PATHS.resampled_bags,
    log:
        PATHS.log("resample-{encoder}-{number}-{share}"),
    benchmark:
        PATHS.benchmark("resample-{encoder}-{number}-{share}")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG["threads"]["bags"]
    resources:
        mem_mb=mem_mb(4000),
        runtime=runtime(480),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["bags"],
        settings=PARAMS.resampled_bags,
        features_as=PARAMS.feature_form,
        # The report checks it again.
        max_failed=untracked(PARAMS.setting("max_failed_slides")),
        features=subpath(input[0], parent=True),
        seed=CONFIG["seed"],
    shell:
        "python {params.scripts}/bag.py --resampled --features {params.features:q}"
        " --manifests {input:q} --out {output:q} --settings {params.settings:q}"
        " --feature-settings {params.features_as:q} --max-failed {params.max_failed}"
        " --seed {params.seed} --threads {threads} 2> {log:q}"
