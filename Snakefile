# Entry point: `snakemake --cores 16` here runs every cohort of config.yaml to its report.
include: "workflow/Snakefile"


# An include resets the default target, so it is named again.
rule default:
    default_target: True
    input:
        rules.all.input,
