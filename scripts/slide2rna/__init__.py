"""slide2rna: H&E whole-slide images to bulk RNA-seq profiles with uncertainty.

Nothing heavy is imported here: the Snakefile reads this file while it is parsed.
"""

__version__ = "0.1.0"

# Command of the driver on the host where Snakemake was started; empty without a driver.
DRIVER = "SLIDE2RNA_DRIVER"

# Snakemake notices changed params, but not changed imported code. Raise a stage's number when the
# same inputs give another result: that stage and all later ones then rerun.
STEP_VERSIONS = {
    "demo": 2,
    "cohort": 4,
    "download": 2,
    "tiles": 1,
    "weights": 1,
    "features": 1,
    "bags": 2,
    "pathways": 3,
    "train": 8,
    "sample": 5,
    "evaluate": 6,
    "export": 1,
    "package": 3,
    "report": 9,
}
