"""What the rules share: the plan of the configuration, and what only Snakemake can hold."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

PACKAGE = Path(workflow.current_basedir).parents[1] / "scripts"
sys.path.insert(0, str(PACKAGE))

from slide2rna import DRIVER, STEP_VERSIONS
from slide2rna.core import output_folder
from slide2rna.core.errors import UserError
from slide2rna.core.process import SNAKEMAKE
from slide2rna.plan.arguments import Arguments
from slide2rna.plan.input_stamps import InputStamps
from slide2rna.plan.inputs import PACKAGED, Inputs
from slide2rna.plan.pairs import Pairs
from slide2rna.plan.parameters import Parameters
from slide2rna.plan.plan import Plan
from slide2rna.plan.targets import Targets

# Jobs take the interpreter that runs Snakemake, activated or not; a conda environment comes first.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)
# Snakemake sets the other pools to a rule's threads; stages with more than one set this one, too.
os.environ.update(POLARS_MAX_THREADS="1")
# They end with the process that started them, even where it is killed (core/process.py).
os.environ[SNAKEMAKE] = str(os.getpid())

try:
    PLAN = Plan.of(config, workflow.configfiles)
except UserError as error:
    # One line, as everywhere else; a traceback through the Snakefile would hide it.
    sys.exit(f"error: {error}")

CONFIG = PLAN.config
PATHS = PLAN.paths
INPUTS = Inputs(PLAN)
PARAMS = Parameters(PLAN)
ARGUMENTS = Arguments(PLAN, INPUTS)
PAIRS = Pairs(PLAN)
# A job on another node takes the stamps that the plan was made with.
STAMPS = InputStamps(PLAN, INPUTS, on_node=not workflow.is_main_process)
TARGETS = Targets(PLAN)

# The node that a job runs on reads this, too, and goes by the host where Snakemake was started.
driver = os.environ.setdefault(DRIVER, shutil.which("nvidia-smi") or "")
# With no GPU on this host, or none wanted, nothing waits for one.
GPU = int(CONFIG["device"] == "cuda" or (CONFIG["device"] == "auto" and driver != ""))
# Of the rules that may use a GPU; all others name envs/cpu.yaml.
GPU_ENV = "../../envs/gpu.yaml" if GPU else "../../envs/cpu.yaml"


def any_of(names):
    """Pattern of a wildcard that is one of these names."""
    return "|".join(re.escape(name) for name in names) or "none"


wildcard_constraints:
    cohort=any_of(PLAN.cohorts),
    shard=r"\d+",
    fold=r"\d+",
    number=r"\d+",
    share=r"[0-9.e-]+",
    encoder=r"[A-Za-z0-9._-]+",
    run=r"[A-Za-z0-9._-]+",
    set=r"[A-Za-z0-9._-]+",


def untracked(value):
    """Params function of what decides no result: a change of it reruns nothing.

    Snakemake compares no params of functions that ask for threads or resources.
    """
    return lambda wildcards, threads: value(wildcards)


# Relative, so that commands can be copied from the log; not compared, so that a moved folder reruns nothing.
SCRIPTS = untracked(lambda wildcards: shlex.quote(os.path.relpath(PACKAGE)))


def in_one_line(function):
    """Input function whose error ends Snakemake with one line."""

    def answer(wildcards):
        try:
            return function(wildcards)
        except UserError as error:
            sys.exit(f"error: {error}")

    return answer


def mem_mb(base):
    """Memory that doubles with each retry, for clusters that kill what takes more."""
    return lambda wildcards, attempt: base * 2 ** (attempt - 1)


def runtime(minutes):
    """As `mem_mb`, of time; what was killed for it goes on where it was."""
    return mem_mb(minutes)
