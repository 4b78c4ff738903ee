"""The reported network of a cohort as a folder that stands alone, for slides to come.

Reads the fold models, the evaluation's tables and what shift saved. Leaves in models/<run>/ the
tables by which new slides are predicted and judged, predictor.json and a model card.
"""


rule package:
    input:
        **INPUTS.tables,
        models=INPUTS.every_fold(PATHS.model),
        weights=INPUTS.every_fold(PATHS.model_weights),
        shift=INPUTS.every_fold(PATHS.shift_reference),
        evaluation=[PATHS.evaluation(table) for table in PACKAGED],
        pathways=INPUTS.gene_sets,
        encoder=INPUTS.run_encoder_weights,
    output:
        about=PATHS.predictor,
        card=PATHS.model_card,
        genes=PATHS.packaged_genes,
        pathways=PATHS.packaged_pathways,
        conformal=PATHS.packaged_conformal,
        known=PATHS.training_slides,
        familiar=directory(PATHS.packaged_references),
    log:
        PATHS.log("package-{run}"),
    benchmark:
        PATHS.benchmark("package-{run}")
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=mem_mb(2000),
        runtime=runtime(30),
    params:
        scripts=SCRIPTS,
        code=STEP_VERSIONS["package"],
        cohort=PARAMS.folder,
        encoder=PARAMS.run("encoder"),
        set=PARAMS.run("pathways"),
        folds=PARAMS.folds,
        settings=PARAMS.package,
        seed=PARAMS.run("seed"),
    shell:
        "python {params.scripts}/package.py --cohort-dir {params.cohort:q} --run {wildcards.run}"
        " --features {params.encoder} --pathways {params.set} --folds {params.folds}"
        " --settings {params.settings:q} --seed {params.seed} 2> {log:q}"
