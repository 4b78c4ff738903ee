"""Report without signal: the demo's slides with another patient's expression.

    python benchmarks/no_signal.py results/demo [--cores 2] [--out results/no-signal]

Simulated data with permuted profiles: each patient of a finished demo gets the profile of a random
patient, and all stages from the folds to the report run as usual on the demo's features. Prints
the page's "In short" and its verdict, which docs/explanation/no-signal.md quotes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import common
import polars as pl
import yaml
from slide2rna.core import cli, config, files, seeds
from slide2rna.core.errors import StageError
from slide2rna.report import report
from slide2rna.report.sections import run_tables
from slide2rna.storage import parquet

NAME, ENCODER, SET = "no-signal", "files", "go-bp"
RUN = f"{ENCODER}-flow-{SET}"


def write_cohort(demo: Path, out: Path, seed: int) -> Path:
    """Write a sheet, permuted expression and a configuration; return the configuration's path."""
    expression = pl.read_parquet(demo / "expression.parquet")
    order = seeds.rng_for(seed, NAME).permutation(expression.height)
    dealt = expression[order].with_columns(expression["sample_id"])
    parquet.write(dealt, out / "expression.parquet")
    features = demo / "features" / "lite0"
    slides = pl.read_parquet(demo / "slides.parquet").select("slide_id", "patient_id", "site")
    known = [(features / f"{name}.h5").is_file() for name in slides["slide_id"]]
    sheet = slides.filter(pl.Series(known)).with_columns(pl.lit("").alias("slide"))
    files.write_text(sheet.write_csv(separator="\t"), out / "sheet.tsv")
    settings: dict[str, Any] = yaml.safe_load((common.ROOT / "config.yaml").read_text())
    own = settings["cohorts"]["demo"]["settings"]
    own = {key: value for key, value in own.items() if key not in ("tiles", "max_failed_slides")}
    own["features"] = {"encoder": ENCODER, "path": str(features)}
    cohort = {"source": "sheet", "sheet": str(out / "sheet.tsv"), "settings": own}
    cohort["expression"] = str(out / "expression.parquet")
    made = {"results": str(out), "cohorts": {NAME: cohort}, "seed": seed}
    config.validate(made)
    files.write_text(yaml.safe_dump(made, sort_keys=False), out / "config.yaml")
    return out / "config.yaml"


def said(results: Path) -> str:
    """Return the page's first two sections as Markdown."""
    context = report.context(run_tables.load(results / NAME, RUN, ENCODER, SET))
    short = [f"> {line}" for line in context["short"]]
    verdict = [f"> - **{line.label}** {line.text}" for line in context["verdict"]]
    return "\n".join(["In short", "", *short, "", "Verdict", "", *verdict])


def main() -> None:
    """Write the cohort, run it, and print the first two sections of its page."""
    parser = cli.parser(__doc__)
    parser.add_argument("demo", type=Path, help="results of the demo")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=common.ROOT / "results" / NAME)
    args = parser.parse_args()
    demo, out = args.demo.resolve(), args.out.resolve()
    if not (demo / "slides.parquet").is_file():
        raise StageError(demo, "no results of the demo", "make demo")
    path = write_cohort(demo, out, args.seed)
    command = [sys.executable, "-m", "snakemake", "--cores", str(args.cores)]
    command += ["--rerun-incomplete", "--configfile", str(path), "--", NAME]
    subprocess.run(command, cwd=common.ROOT, stdout=sys.stderr, check=True)
    print(said(out))


if __name__ == "__main__":
    main()
