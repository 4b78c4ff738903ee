"""slide2rna: H&E whole-slide images to bulk RNA-seq profiles with uncertainty.

Nothing heavy is imported here: the Snakefile reads this file while it is parsed.
"""

__version__ = "0.1.0"

# The driver's command on the host where Snakemake was started, empty where there is none.
DRIVER = "SLIDE2RNA_DRIVER"

# Snakemake sees changed params, never changed imported code. A stage's number goes up when
# the same inputs would give another result; everything after that stage then runs again.
STEP_VERSIONS = {
    "demo": 2,
    "cohort": 3,
    "download": 1,
    "tiles": 1,
    "weights": 1,
    "features": 1,
    "bags": 2,
    "pathways": 3,
    "train": 7,
    "sample": 5,
    "evaluate": 6,
    "export": 1,
    "package": 3,
    "report": 8,
}
