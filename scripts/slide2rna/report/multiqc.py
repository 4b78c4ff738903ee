"""MultiQC export: one row per slide for the table of general statistics.

The format is MultiQC's custom content, https://docs.seqera.io/multiqc/custom_content: a file named
*_mqc.tsv whose commented first lines are YAML. `multiqc results/` finds it by its name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.core import files
from slide2rna.core.errors import StageError
from slide2rna.storage import parquet

# Column, title, explanation, format, and further keys of MultiQC's headers.
COLUMNS: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("fold", "Fold", "Fold in which the slide is in test", "{:,.0f}", {"scale": False}),
    ("tiles", "Tiles", "Tiles in the bag", "{:,.0f}", {"min": 0, "scale": "Blues"}),
    (
        *("rejected", "Rejected", "Tiles left out at full resolution: white, or without contrast"),
        *("{:,.0f}", {"min": 0, "scale": "Oranges"}),
    ),
    (
        *("bag_p", "Bag p", "p of the bag's distance to training, against calibration patients"),
        *("{:,.3f}", {"min": 0, "max": 1, "scale": "RdYlGn"}),
    ),
    (
        *("bag_p_train", "Bag p, train", "The same against the training patients; approximate"),
        *("{:,.3f}", {"min": 0, "max": 1, "scale": "RdYlGn"}),
    ),
    (
        *("expression_p", "Profile p", "p of the predicted profile's distance to training"),
        *("{:,.3f}", {"min": 0, "max": 1, "scale": "RdYlGn"}),
    ),
    (
        *("rmse", "RMSE", "Error over all genes of the slide's sample, log2"),
        *("{:,.3f}", {"min": 0, "scale": "Reds"}),
    ),
    ("failed", "Failed", "Reason why the slide is missing in the bags", "{}", {"scale": False}),
)
PREFIX = "slide2rna_"


def slide_table(
    slides: Path, samples: Path, features: Sequence[Path], shift: Sequence[Path]
) -> pl.DataFrame:
    """Return every slide of the cohort with the columns of `COLUMNS`; missing values are null.

    Parameters
    ----------
    slides : slides.parquet.
    samples : the evaluation's samples.parquet.
    features : manifests of the features, one per shard.
    shift : distances of the slides, one table per fold; only test slides are used.

    Raises
    ------
    StageError
        A table can't be read.
    """
    table = _read(slides).select("slide_id", "sample_id").sort("slide_id")
    tiles = pl.concat([_read(path) for path in features]).select(
        "slide_id",
        pl.col("n_tiles").alias("tiles"),
        pl.col("n_rejected").alias("rejected"),
        pl.when(pl.col("status") != "ok").then(pl.col("reason")).alias("failed"),
    )
    p_values = ["bag_p", "bag_p_train", "expression_p"]
    tested = pl.concat([_read(path) for path in shift]).filter(pl.col("part") == "test")
    tested = tested.unique("slide_id", keep="first", maintain_order=True)
    scored = _read(samples).unique("sample_id", keep="first", maintain_order=True)
    table = (
        table.join(tiles, on="slide_id", how="left")
        .join(tested.select("slide_id", "fold", *p_values), on="slide_id", how="left")
        .join(scored.select("sample_id", "rmse"), on="sample_id", how="left")
    )
    # A slide without a bag has no part in its sample's error.
    table = table.with_columns(pl.when(pl.col("fold").is_not_null()).then("rmse").alias("rmse"))
    return table.select("slide_id", *(name for name, *_ in COLUMNS)).sort("slide_id")


def _read(path: Path) -> pl.DataFrame:
    try:
        return parquet.read(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StageError(
            path, f"not readable ({error})", "run the cohort up to its report"
        ) from error


def as_tsv(table: pl.DataFrame, cohort: str, run: str) -> str:
    """Return the file's text; columns without any value are left out."""
    columns = [column for column in COLUMNS if table[column[0]].is_not_null().any()]
    head = [
        f"# id: {json.dumps(f'slide2rna-{cohort}-{run}')}",
        "# plot_type: 'generalstats'",
        "# file_format: 'tsv'",
        "# pconfig:",
    ]
    for name, title, text, form, headers in columns:
        head.append(f"#     - {PREFIX}{name}:")
        keys = {
            "title": title,
            "description": text,
            "format": form,
            "namespace": f"slide2rna {cohort}",
        }
        keys |= headers
        head += [f"#         {key}: {json.dumps(value)}" for key, value in keys.items()]
    rows = ["\t".join(["Sample", *(PREFIX + name for name, *_ in columns)])]
    for row in table.select("slide_id", *(name for name, *_ in columns)).iter_rows():
        rows.append("\t".join(_cell(value) for value in row))
    return "\n".join([*head, *rows]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    if not isinstance(value, str):
        return text
    # A spreadsheet would run a formula, and MultiQC's page would render HTML.
    text = text.replace('"', "'").replace("<", "&lt;")
    text = f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
    # Quotes keep it text: a slide named 0012 would become a number.
    return f'"{text}"'


def write(table: pl.DataFrame, cohort: str, run: str, path: str | Path) -> None:
    """Write the file atomically."""
    files.write_text(as_tsv(table, cohort, run), path)
