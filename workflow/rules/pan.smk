"""What partner cohorts add: each member of a `pan` beside itself trained without partners.

`snakemake pan` makes the tables; nothing else asks for them. Leaves results/pan/<cohort>/<run>/ with
those of the ablation `alone`, and a figure. The cohort's own page has the row, too, with
`extras: [ablations]`.
"""


rule pan:
    input:
        TARGETS.partners,


use rule score_ablations as score_partners with:
    input:
        **INPUTS.scored(PATHS.draws),
        others=INPUTS.alone_draws,
    output:
        table=PATHS.partners,
        pathways=PATHS.partner_pathways,
        figures=multiext(PATHS.partner_figure, ".png", ".svg"),
    log:
        PATHS.partner_log,
    benchmark:
        PATHS.partner_benchmark
    params:
        variants=PARAMS.alone,
