"""Configuration of the benchmark on real TCGA patients: a cohort per folder and way of splitting.

A folder holds features.parquet (slide_id and a number per feature), expression.parquet (log2),
sheet.tsv and, if signatures are to be scored, immune_signatures.parquet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from slide2rna.core.errors import ConfigError
from slide2rna.core.files import write_text
from slide2rna.core.log import log
from slide2rna.storage import parquet

TABLES = ("features.parquet", "expression.parquet", "sheet.tsv")
SIGNATURES = "immune_signatures.parquet"
COHORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
FOLDS = 5
PATIENT, SITE = "patient", "sites held out"
# Folder of the cohort -> counts of the whole genome for some of its patients, genes x patients.
WHOLE_GENOME = {"brca": "bulk/tcga_brca_115_counts.csv.gz"}
# Models that were trained with a partner can't be tested on it, so these are trained alone, too.
EXTERNAL_PAIR = ("LUAD", "LUSC")
ALONE = "-alone"
# ABMIL is pointless here: with one vector per slide there is nothing to attend to.
SETTINGS: dict[str, Any] = {
    "models": ["flow"],
    "ablations": {},
    "bags": {"k": 1},
    "pathways": {"max_genes": 50, "max_sets": 120},
    "model": {"hidden": 64, "blocks": 2, "heads": 4, "mlp_ratio": 2, "cluster_layers": 1},
    "train": {
        "learning_rate": 0.001,
        "batch": 32,
        "epochs": 100,
        "patience": 5,
        "checkpoint_epochs": 10,
    },
    "sample": {"steps": 8, "draws": 100},
}


@dataclass(frozen=True)
class BenchmarkCohort:
    """A cohort of the configuration.

    Attributes
    ----------
    name : as in the configuration and in results/.
    split : PATIENT or SITE.
    signatures : table of immune signatures; it may be missing.
    entry : its entry in the configuration.
    """

    name: str
    split: str
    signatures: Path
    entry: dict[str, Any]


def cohort_folders(data: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders of these cohorts; of all complete ones if no name is given.

    Raises
    ------
    ConfigError
        A folder lacks a table, none is complete, or a name can't be a cohort's.
    """
    listed = sorted(path for path in data.iterdir() if path.is_dir()) if data.is_dir() else []
    folders = [data / name for name in names] if names else [f for f in listed if not _absent(f)]
    if not folders:
        cause = f"no folder in it holds {', '.join(TABLES)}"
        raise ConfigError(data, cause, "give the folder above the cohorts: make real-tcga DATA=...")
    for folder in folders:
        if absent := _absent(folder):
            cause = f"{', '.join(absent)} is missing"
            raise ConfigError(folder, cause, "add it, or leave this cohort out of COHORTS=")
        if not COHORT_NAME.fullmatch(folder.name):
            cause = "it can't name a cohort"
            raise ConfigError(folder, cause, "rename it: letters, digits, - and _")
    return folders


def _absent(folder: Path) -> list[str]:
    return [name for name in TABLES if not (folder / name).is_file()]


def benchmark_cohorts(folders: Sequence[Path], out: Path) -> list[BenchmarkCohort]:
    """Return the cohorts of these folders; writes the tables of those with the whole genome."""
    cohorts = []
    names = [folder.name.upper() for folder in folders]
    for folder, name in zip(folders, names, strict=True):
        entry = _sheet_cohort(folder, folder / "sheet.tsv", folder / "expression.parquet")
        if name in EXTERNAL_PAIR and set(EXTERNAL_PAIR) <= set(names):
            cohorts.append(_split_cohort(f"{name}{ALONE}", PATIENT, folder, entry, FOLDS))
        entry["settings"] = entry["settings"] | {"pan": [other for other in names if other != name]}
        cohorts.append(_split_cohort(name, PATIENT, folder, entry, FOLDS))
        sites = _count_sites(folder / "sheet.tsv")
        if sites > 1:
            count = min(FOLDS, sites)
            cohorts.append(_split_cohort(f"{name}-sites", SITE, folder, entry, count))
        counts = folder.parent.parent / WHOLE_GENOME.get(folder.name, "-")
        if counts.is_file():
            sheet, expression = write_whole_genome(counts, folder, out / "source" / f"{name}-bulk")
            entry = _sheet_cohort(folder, sheet, expression) | {"expression_unit": "counts"}
            cohorts.append(_split_cohort(f"{name}-bulk", PATIENT, folder, entry, FOLDS))
    return cohorts


def configuration(cohorts: Sequence[BenchmarkCohort], out: Path) -> dict[str, Any]:
    """Return the configuration of these cohorts, with the external pairs that they allow."""
    names = {cohort.name for cohort in cohorts}
    alone = tuple(f"{name}{ALONE}" for name in EXTERNAL_PAIR)
    pairs = [alone, alone[::-1]] if names.issuperset(alone) else []
    full = {
        "results": str(out),
        "cohorts": {cohort.name: cohort.entry for cohort in cohorts},
        # Genes that only one of the two has are left out of the scores.
        "external": [{"train": train, "test": test} for train, test in pairs],
    }
    # A copy in which no cohorts share an object: YAML would write the second as a reference.
    return dict(json.loads(json.dumps(full)))


def write_whole_genome(counts: Path, folder: Path, out: Path) -> tuple[Path, Path]:
    """Write the sheet and the counts (patients x genes) of the patients that both tables have."""
    table = pl.read_csv(counts, infer_schema_length=100)
    gene, *measured = table.columns
    sheet = pl.read_csv(folder / "sheet.tsv", separator="\t", infer_schema=False)
    sheet = sheet.filter(pl.col("patient_id").is_in(measured))
    names = sheet["patient_id"].unique().sort().to_list()
    values = table.select(names).to_numpy().T
    genes = {name: values[:, row] for row, name in enumerate(table[gene])}
    write_text(sheet.write_csv(separator="\t"), out / "sheet.tsv")
    parquet.write(pl.DataFrame({"sample_id": names} | genes), out / "expression.parquet")
    return out / "sheet.tsv", out / "expression.parquet"


def _sheet_cohort(folder: Path, sheet: Path, expression: Path) -> dict[str, Any]:
    features = {"encoder": "files", "level": "slide", "scale": "rank"}
    features["path"] = str(folder / "features.parquet")
    return {
        "source": "sheet",
        "sheet": str(sheet),
        "expression": str(expression),
        "expression_unit": "log2",
        "settings": SETTINGS | {"features": features},
    }


def _split_cohort(
    name: str, split: str, folder: Path, entry: dict[str, Any], count: int
) -> BenchmarkCohort:
    folds = {"n": count, "by": "patient" if split == PATIENT else "leave-site-out"}
    settings = entry["settings"] | {"folds": folds}
    return BenchmarkCohort(name, split, folder / SIGNATURES, entry | {"settings": settings})


def _count_sites(sheet: Path) -> int:
    """Count the sites of a sheet; 0, with a line in the log, where a patient's is unknown."""
    table = pl.read_csv(sheet, separator="\t", infer_schema=False)
    site = table["site"] if "site" in table.columns else pl.Series([None], dtype=pl.String)
    if site.null_count():
        log.info("%s: a site is missing, so no sites are held out", sheet)
        return 0
    return site.n_unique()
