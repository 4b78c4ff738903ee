"""PathDB queries: CPTAC slides at TCIA's pathology portal, and their tissue.

No recorded answer of the server was available to test against. The requests follow TCIA's
client, https://github.com/kirbyju/tcia_utils (pathdb.py), and the slide table that PathDB
publishes: `collections` returns a collection's number, `listofimages/<number>` its slides page by
page, and the table each slide's patient, specimen type and embedding medium.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.cohort.gdc import SCHEMA
from slide2rna.core.errors import ConfigError, DownloadError, SheetError
from slide2rna.core.types import Row
from slide2rna.storage.delimited import read_table
from slide2rna.transfer import client, resumable

# Case_ID, Slide_ID, Specimen_ID, Specimen_Type and Embedding_Medium of all CPTAC slides.
TABLE = "system/files/collectionmetadata/202407/cptac_metadata_07-09-2024.csv"
COLUMNS = ("Case_ID", "Slide_ID", "Specimen_ID", "Specimen_Type", "Embedding_Medium")
TYPES = {"tumor_tissue": "01", "normal_tissue": "11"}


def slides(session: client.Client, url: str, collection: str, table: Path) -> pl.DataFrame:
    """List a collection's slides, with specimen, sample type and medium from the slide table.

    Parameters
    ----------
    url
        The portal.
    collection
        E.g. CPTAC-LUAD, in upper or lower case.
    table
        Path of the slide table (CSV); `fetch_table` downloads it.

    Returns
    -------
    polars.DataFrame
        The columns of `gdc.SCHEMA`; `medium` is the embedding medium (FFPE, OCT, or null where
        the table has none). PathDB provides neither md5 nor size.

    Raises
    ------
    ConfigError
        No such collection.
    DownloadError, SheetError
        An answer or a table differs from the documentation.
    """
    number = _collection_number(session, url, collection)
    rows: dict[str, Row] = {}
    page = 0
    while True:
        where = f"{url}/listofimages/{number}"
        items = client.get_json(session, where, params={"_format": "json", "page": page})
        page_rows = {
            _field_value(item, "imageid", where): _image_row(item, where, url) for item in items
        }
        if not page_rows.keys() - rows.keys():
            break  # an empty page ends the list, and so does a repeat of the last page
        rows |= page_rows
        page += 1
    images = pl.DataFrame(list(rows.values()), schema=SCHEMA, orient="row")
    details = read_slide_table(table)
    images = images.drop("specimen", "sample_type", "medium").join(
        details, left_on="uuid", right_on="slide", how="left"
    )
    return images.select(list(SCHEMA)).sort("uuid")


def read_slide_table(path: Path) -> pl.DataFrame:
    """Read slide, specimen, sample_type and medium from the slide table, one row per slide.

    If a slide has several rows, the first one with a medium counts.
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
    """Download the slide table, unless the file exists."""
    if not dest.is_file():
        session = client.session(settings)
        resumable.fetch_file(session, f"{url}/{TABLE}", dest, None, None, settings)
    return dest


def _collection_number(session: client.Client, url: str, collection: str) -> str:
    """Return PathDB's number of a collection."""
    where = f"{url}/collections"
    items = client.get_json(session, where, params={"_format": "json"})
    names = {_field_value(item, "name", where): _field_value(item, "tid", where) for item in items}
    for name, number in names.items():
        if name.lower() == collection.lower():
            return number
    candidates = ", ".join(sorted(name for name in names if name.lower().startswith("cptac")))
    raise ConfigError(
        "collection", f"PathDB has no '{collection}'", f"it has {candidates or 'none'}"
    )


def _image_row(item: dict[str, Any], where: str, url: str) -> Row:
    """Return the row of one image in `listofimages`."""
    try:
        link = str(item["field_wsiimage"][0]["url"])
    except (KeyError, IndexError, TypeError) as error:
        cause = f"an image without field_wsiimage ({error})"
        raise DownloadError(where, cause, "give your own manifest") from error
    if url.startswith("https:") and link.startswith("http:"):
        link = "https:" + link.removeprefix("http:")
    return {
        "kind": "slide",
        "uuid": _field_value(item, "imageid", where),
        "name": link.rsplit("/", 1)[-1],
        "state": "listed",
        "url": link,
        "patient_id": _field_value(item, "clinicaltrialsubjectid", where),
    }


def _field_value(item: dict[str, Any], field: str, where: str) -> str:
    """Return a field's value; Drupal's JSON wraps it: {"field": [{"value": ...}]}."""
    try:
        return str(item[field][0]["value"])
    except (KeyError, IndexError, TypeError) as error:
        cause = f"an entry without '{field}'"
        raise DownloadError(where, cause, "give your own manifest") from error
