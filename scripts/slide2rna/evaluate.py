"""The clean protocol: val ranks the genes, test is scored once, patients are the unit.

Every table says how many patients stand behind a number, carries an interval over patients
where there is one, and the caveat of the cohort where it has one.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slide2rna import calibration, io, patients, scoring, tables
from slide2rna.config import Settings
from slide2rna.scoring import Inputs
from slide2rna.summary import summary_table

PROTOCOL = "clean"


def evaluate(
    inputs: Inputs, run: str, out: str | Path, settings: Settings, seed: int, threads: int
) -> None:
    """Write summary, genes, calibration, pathways, samples and examples as Parquet.

    Raises
    ------
    StageError
        The inputs don't belong together.
    """
    genes = scoring.model_genes(inputs)
    cohort = patients.load_cohort(
        genes, inputs.bags, inputs.expression, inputs.slides, inputs.splits, inputs.cohort
    )
    names, members = scoring.load_members(inputs.pathways, genes)
    found = scoring.score(cohort, inputs, members, settings, seed, threads)
    made = {
        "summary": summary_table(found),
        "genes": tables.gene_table(found),
        "calibration": calibration.table(
            found.draws,
            [fold.truth for fold in found.inputs],
            [fold.sets[found.model] for fold in found.inputs],
            found.set_names,
            found.train,
            [fold.counts for fold in found.inputs],
        ),
        "pathways": tables.pathway_table(found, names, members),
        "samples": tables.sample_table(found),
        "examples": tables.example_table(found),
    }
    for name, table in made.items():
        stamp = {"cohort": cohort.info["name"], "run": run, "protocol": PROTOCOL}
        stamped = table.select(
            *(pl.lit(value).alias(key) for key, value in stamp.items()),
            pl.all(),
            pl.lit(cohort.info.get("caveat"), dtype=pl.String).alias("caveat"),
        )
        io.write_parquet(stamped, Path(out) / f"{name}.parquet")
