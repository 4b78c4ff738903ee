"""Planning and cohort stage of a cohort of TCGA-BRCA's size: 1,130 slides, 20,820 genes.

GDC's answers come from a server on loopback. STAR-counts files are simulated, with GENCODE v36's
60,660 rows (44 of them PAR_Y copies), 4.3 MB each. Their number is the real one: nothing is
extrapolated. The files are in the page cache, so a slow disk adds its own time.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import polars as pl
from gdc_server import STAR_HEAD, GdcServer
from slide2rna.cohort import freeze, gdc_cohort, manifest
from slide2rna.core import config
from slide2rna.transfer import client

SAMPLES, GENES, LISTED, PAR_Y = 1_130, 60_660, 20_820, 44
DISTINCT = 20
LIMIT_S, LIMIT_GB = 60.0, 3.0


def star_file(seed: int) -> bytes:
    """Return a file with GENCODE v36's number of rows, of repeated names and of PAR_Y copies."""
    rng = np.random.default_rng(seed)
    counts = rng.negative_binomial(0.3, 0.0005, GENES)
    index = pl.int_range(GENES)
    copy = index >= GENES - PAR_Y
    table = pl.select(
        pl.format(
            "ENSG{}.{}{}",
            10**10 + index,
            index % 20,
            pl.when(copy).then(pl.lit("_PAR_Y")).otherwise(pl.lit("")),
        ),
        pl.format("GENE{}", index % 59_427).alias("name"),
        pl.lit("protein_coding").alias("type"),
    ).with_columns(
        pl.Series("a", counts),
        pl.Series("b", counts // 2),
        pl.Series("c", counts - counts // 2),
        *(pl.Series(f"x{x}", (counts * x).round(4)) for x in (0.0123, 0.0045, 0.0053)),
    )
    return STAR_HEAD.encode() + table.write_csv(separator="\t", include_header=False).encode()


def block(folder: Path, api: str) -> dict[str, Any]:
    own = {"source": "gdc", "project": "TCGA-BRCA", "api": api, "genes": str(folder / "genes.txt")}
    own |= {"manifest": str(folder / "BRCA.tsv")}
    return config.validate({"cohorts": {"BRCA": own}})["cohorts"]["BRCA"]


def plan(folder: Path) -> float:
    """Put the files where they would be fetched to; seconds from query to a readable manifest."""
    star = folder / "out" / "star"
    star.mkdir(parents=True)
    bodies = [star_file(i) for i in range(DISTINCT)]
    with GdcServer() as server:
        for i in range(SAMPLES):
            patient = f"TCGA-{i % 40:02d}-{i:04d}"
            name = f"{patient}-01Z-00-DX1.{i:08X}.svs"
            server.add_slide(name, b"%d" % i, "TCGA-BRCA", "Primary Tumor")
            server.add_star(f"{patient}-01A-11R-0946-07", {}, "TCGA-BRCA", "Primary Tumor")
            body = bodies[i % DISTINCT]
            promised = {"file_size": len(body), "md5sum": hashlib.md5(body).hexdigest()}
            server.files[-1].update(promised)
            (star / f"{patient}-01A.tsv").write_bytes(body)
        source = block(folder, server.url)
        began = time.perf_counter()
        gdc_cohort.freeze(
            source, folder / "BRCA.tsv", folder, client.ServerSettings(api=server.url)
        )
        table = manifest.read(folder / "BRCA.tsv")
        spent = time.perf_counter() - began
    kept = table.filter(pl.col("reason").is_null())["kind"].value_counts()
    assert dict(kept.rows()) == {"slide": SAMPLES, "expression": SAMPLES}, kept
    return spent


def stage(folder: Path) -> None:
    """Run the whole cohort stage in a separate process: checks, expression, folds, tables."""
    began = time.perf_counter()
    folds = config.defaults("folds")
    freeze.freeze_cohort("BRCA", block(folder, "http://127.0.0.1:9"), folds, 1, folder / "out")
    spent = time.perf_counter() - began
    schema = pl.read_parquet_schema(folder / "out" / "expression.parquet")
    assert len(schema) == LISTED + 1, len(schema)
    print(json.dumps([spent, common.peak_mb() * 2**20 / 1e9]))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "genes.txt").write_text("\n".join(f"GENE{i}" for i in range(LISTED)))
        spent = plan(folder)
        seconds, gigabytes = json.loads(common.in_own_process(__file__, "--stage", name))
    size = f"{SAMPLES} slides, {LISTED} genes x {SAMPLES} samples"
    results = [
        line("planning", spent, "s", f"{size}: from query to manifest", LIMIT_S),
        line("cohort stage", seconds, "s", f"{size}: md5, expression, folds", LIMIT_S),
        line("cohort stage memory", gigabytes, "GB", "its highest resident set", LIMIT_GB),
    ]
    common.finish(results)


def line(name: str, value: float, unit: str, yardstick: str, limit: float) -> bool:
    """Print one JSON line; the ratio says how often the value fits into its limit."""
    ratio = limit / value
    found = {"name": name, "value": round(value, 3), "unit": unit, "yardstick": yardstick}
    found |= {"ratio": round(ratio, 3), "target": 1, "ok": ratio >= 1}
    print(json.dumps(found), flush=True)
    return ratio >= 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        stage(Path(sys.argv[2]))
    else:
        main()
