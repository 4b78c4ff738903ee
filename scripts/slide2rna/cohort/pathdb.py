"""CPTAC's slides at TCIA's pathology portal, PathDB: which there are, and of what tissue.

Nothing here could be compared with a recorded answer. The requests follow TCIA's own client,
https://github.com/kirbyju/tcia_utils (pathdb.py), and the slide table that PathDB publishes:
`collections` gives a collection's number, `listofimages/<number>` its slides page by page, and
the table each slide's patient, specimen type and embedding medium.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.cohort.gdc import SCHEMA
from slide2rna.core.delimited import read_table
from slide2rna.core.errors import ConfigError, DownloadError, SheetError
from slide2rna.transfer import client, resumable

# Case_ID, Slide_ID, Specimen_ID, Specimen_Type and Embedding_Medium of all CPTAC slides.
TABLE = "system/files/collectionmetadata/202407/cptac_metadata_07-09-2024.csv"
COLUMNS = ("Case_ID", "Slide_ID", "Specimen_ID", "Specimen_Type", "Embedding_Medium")
TYPES = {"tumor_tissue": "01", "normal_tissue": "11"}


def slides(session: client.Client, url: str, collection: str, table: Path) -> pl.DataFrame:
    """A collection's slides with what the slide table says of them.

    Parameters
    ----------
    url
        The portal.
    collection
        E.g. CPTAC-LUAD; case doesn't matter.
    table
        The slide table (CSV) on disk; `fetch_table` gets it.

    Returns
    -------
    polars.DataFrame
        The columns of `gdc.SCHEMA`; `medium` is the embedding medium (FFPE, OCT, or null where
        the table doesn't say). PathDB promises neither md5 nor size.

    Raises
    ------
    ConfigError
        No such collection.
    DownloadError, SheetError
        An answer or a table that isn't what the documentation says.
    """
    number = _number(session, url, collection)
    rows: dict[str, dict[str, Any]] = {}
    page = 0
    while True:
        where = f"{url}/listofimages/{number}"
        items = client.get_json(session, where, params={"_format": "json", "page": page})
        found = {_value(item, "imageid", where): _row(item, where, url) for item in items}
        if not found.keys() - rows.keys():
            break  # an empty page ends the list; so does one that repeats the last
        rows |= found
        page += 1
    listed = pl.DataFrame(list(rows.values()), schema=SCHEMA, orient="row")
    known = read_slide_table(table)
    listed = listed.drop("specimen", "sample_type", "medium").join(
        known, left_on="uuid", right_on="slide", how="left"
    )
    return listed.select(list(SCHEMA)).sort("uuid")


def read_slide_table(path: Path) -> pl.DataFrame:
    """slide, specimen, sample_type and medium of the slide table; a slide has one row.

    Of a slide with several rows the first that names a medium counts.
    """
    table = read_table(path)
    absent = [name for name in COLUMNS if name not in table.columns]
    if absent:
        cause = f"column '{absent[0]}' is missing"
        raise SheetError(path, cause, f"PathDB's slide table has {', '.join(COLUMNS)}")
    medium = pl.col("Embedding_Medium").str.to_uppercase()
    return (
        table.with_columns(pl.when(medium != "").then(medium).alias("medium"))
        .sort("Slide_ID", pl.col("medium").is_null(), "line")
        .unique("Slide_ID", keep="first", maintain_order=True)
        .select(
            pl.col("Slide_ID").alias("slide"),
            pl.when(pl.col("Specimen_ID") != "").then("Specimen_ID").alias("specimen"),
            pl.col("Specimen_Type").replace_strict(TYPES, default=None).alias("sample_type"),
            "medium",
        )
    )


def fetch_table(url: str, dest: Path, settings: client.ServerSettings) -> Path:
    """Get the slide table, unless it is there already."""
    if not dest.is_file():
        session = client.session(settings)
        resumable.fetch_file(session, f"{url}/{TABLE}", dest, None, None, settings)
    return dest


def _number(session: client.Client, url: str, collection: str) -> str:
    where = f"{url}/collections"
    items = client.get_json(session, where, params={"_format": "json"})
    names = {_value(item, "name", where): _value(item, "tid", where) for item in items}
    for name, number in names.items():
        if name.lower() == collection.lower():
            return number
    near = ", ".join(sorted(name for name in names if name.lower().startswith("cptac")))
    raise ConfigError("collection", f"PathDB has no '{collection}'", f"it has {near or 'none'}")


def _row(item: dict[str, Any], where: str, url: str) -> dict[str, Any]:
    try:
        link = str(item["field_wsiimage"][0]["url"])
    except (KeyError, IndexError, TypeError) as error:
        cause = f"an image without field_wsiimage ({error})"
        raise DownloadError(where, cause, "give a manifest of your own") from error
    if url.startswith("https:") and link.startswith("http:"):
        link = "https:" + link.removeprefix("http:")
    return {
        "kind": "slide",
        "uuid": _value(item, "imageid", where),
        "name": link.rsplit("/", 1)[-1],
        "state": "listed",
        "url": link,
        "patient_id": _value(item, "clinicaltrialsubjectid", where),
    }


def _value(item: dict[str, Any], field: str, where: str) -> str:
    """Drupal's JSON wraps each value: {"field": [{"value": ...}]}."""
    try:
        return str(item[field][0]["value"])
    except (KeyError, IndexError, TypeError) as error:
        cause = f"an entry without '{field}'"
        raise DownloadError(where, cause, "give a manifest of your own") from error
