"""Benchmark of flow, ridge and nulls on real TCGA patients, by patient and with sites held out.

    python benchmarks/real_tcga.py ../shared/data/tcga_hif [--cohorts luad,lusc] [--cores 2]

DATA is a folder of folders with features.parquet (one vector per slide), expression.parquet,
sheet.tsv and immune_signatures.parquet. Runs the pipeline's Snakefile and writes config.yaml,
the cohorts' results, table.parquet, signatures.parquet and table.md in --out; prints table.md.
See docs/explanation/real-patients.md.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import polars as pl
import real_tcga_config as planned
import real_tcga_signature_tables as signature_tables
import real_tcga_signatures as signatures
import real_tcga_tables as tables
import yaml
from slide2rna.core import cli, config, files
from slide2rna.core.errors import ConfigError
from slide2rna.core.log import log
from slide2rna.plan import runs
from slide2rna.storage import parquet

LICENCE = (
    "Features: Diao et al. 2021, doi:10.1038/s41467-021-21896-9, CC BY-NC-SA 4.0. The z-scores of "
    "the expression were made over the whole cohort: errors have seen test patients, correlations "
    "have not."
)


def run_pipeline(path: Path, settings: dict[str, Any], cores: int) -> None:
    """Run Snakemake to the reports of the cohorts and to the external pages.

    Raises
    ------
    ConfigError
        A job failed; its log is in the output.
    """
    targets = [*settings["cohorts"], *(["external"] if settings["external"] else [])]
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--rerun-incomplete"]
    command += ["--configfile", str(path), "--", *targets]
    if subprocess.run(command, cwd=common.ROOT, check=False).returncode:
        remedy = "fix the error above, then rerun the same command to continue"
        raise ConfigError(path, "the run failed", remedy)


def run_names(settings: dict[str, Any]) -> dict[str, str]:
    """Return the name of each cohort's reported run."""
    full = config.validate(settings)
    return {name: runs.model_runs(full, name)[0].name for name in full["cohorts"]}


def result_table(
    results: Path,
    cohorts: Sequence[planned.BenchmarkCohort],
    settings: dict[str, Any],
    names: dict[str, str],
) -> pl.DataFrame:
    """Return the rows of all cohorts and external pairs."""
    frames = [tables.cohort_rows(results, cohort, names[cohort.name]) for cohort in cohorts]
    for pair in settings["external"]:
        train, test = pair["train"], pair["test"]
        frames.append(tables.external_rows(results, train, test, names[train]))
    return pl.concat(frames)


def signature_table(
    results: Path, cohorts: Sequence[planned.BenchmarkCohort], names: dict[str, str]
) -> pl.DataFrame:
    """Return the signatures of the cohorts that have them.

    `quantity` is signature in the rows of one signature; in the rows of the signature `mean` it
    says what `value`, `low` and `high` are the mean of.
    """
    frames = [pl.DataFrame(schema={"split": pl.String, "cohort": pl.String})]
    for cohort in cohorts:
        if not cohort.signatures.is_file():
            log.info("%s: no %s", cohort.name, cohort.signatures.name)
            continue
        columns = signatures.signature_names(cohort.signatures)
        folder, run = results / cohort.name, names[cohort.name]
        scored = signatures.score_cohort(folder, run, cohort.signatures, columns)
        stamp = [pl.lit(cohort.split).alias("split"), pl.lit(cohort.name).alias("cohort")]
        each = signature_tables.signature_table(scored, columns)
        means = signature_tables.summary_table(scored)
        frames.append(each.select(*stamp, pl.lit("signature").alias("quantity"), pl.all()))
        frames.append(means.select(*stamp, pl.lit("mean").alias("signature"), pl.all()))
    return pl.concat(frames, how="diagonal_relaxed")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the configuration, run the cohorts, and write and print the tables."""
    parser = cli.parser(__doc__)
    parser.add_argument("data", type=Path, help="folder of the cohorts' folders")
    parser.add_argument("--cohorts", default="", help="names of folders, with commas; default all")
    parser.add_argument("--out", type=Path, default=common.ROOT / "results/real-tcga")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--tables-only", action="store_true", help="of results that are there")
    args = parser.parse_args(argv)
    began = time.perf_counter()
    data, out = args.data.resolve(), args.out.resolve()
    chosen = [name for name in args.cohorts.replace(",", " ").split() if name]
    cohorts = planned.benchmark_cohorts(planned.cohort_folders(data, chosen), out)
    settings = planned.configuration(cohorts, out)
    path = out / "config.yaml"
    files.write_text(yaml.safe_dump(settings, sort_keys=False), path)
    names = run_names(settings)
    if not args.tables_only:
        run_pipeline(path, settings, args.cores)
    table = result_table(out, cohorts, settings, names)
    immune = signature_table(out, cohorts, names)
    minutes = f"{', '.join(settings['cohorts'])}: {(time.perf_counter() - began) / 60:.0f} minutes."
    text = tables.page(table, immune, [LICENCE, minutes])
    parquet.write(table, out / "table.parquet")
    parquet.write(immune, out / "signatures.parquet")
    files.write_text(text, out / "table.md")
    print(text)


if __name__ == "__main__":
    cli.run(main, stage=False)
