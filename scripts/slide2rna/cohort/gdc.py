"""GDC queries: data release, and a project's patients, slides and STAR counts.

Each query is a POST with JSON filters, read page by page in a fixed order:
https://docs.gdc.cancer.gov/API/Users_Guide/Search_and_Retrieval/
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import polars as pl

from slide2rna.core.errors import ConfigError, DownloadError
from slide2rna.core.log import log
from slide2rna.core.types import Row
from slide2rna.transfer import client

PAGE = 1000
STRATEGIES = {
    "diagnostic": ["Diagnostic Slide"],
    "all": ["Diagnostic Slide", "Tissue Slide"],
}
SCHEMA = {
    "kind": pl.String,
    "uuid": pl.String,
    "name": pl.String,
    "md5": pl.String,
    "size": pl.Int64,
    "state": pl.String,
    "url": pl.String,
    "patient_id": pl.String,
    "specimen": pl.String,
    "sample_type": pl.String,
    "aliquot": pl.String,
    "medium": pl.String,
}
FIELDS = (
    "file_id",
    "file_name",
    "md5sum",
    "file_size",
    "state",
    "experimental_strategy",
    "cases.submitter_id",
    "cases.samples.submitter_id",
    "cases.samples.sample_type",
    "cases.samples.portions.analytes.aliquots.submitter_id",
)
# Codes of the TCGA barcode; other projects give only the name.
# https://gdc.cancer.gov/resources-tcga-users/tcga-code-tables/sample-type-codes
SAMPLE_TYPES = {
    "Primary Tumor": "01",
    "Recurrent Tumor": "02",
    "Primary Blood Derived Cancer - Peripheral Blood": "03",
    "Additional - New Primary": "05",
    "Metastatic": "06",
    "Additional Metastatic": "07",
    "Blood Derived Normal": "10",
    "Solid Tissue Normal": "11",
}
BARCODE = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}-(\d{2})[A-Z]")


def release(session: client.Client, api: str) -> str:
    """Return GDC's data release, from `/status`.

    https://docs.gdc.cancer.gov/API/Users_Guide/Search_and_Retrieval/#status-endpoint
    """
    data_release = client.get_json(session, f"{api}/status").get("data_release")
    if not data_release:
        raise DownloadError(f"{api}/status", "no data_release in the answer", "check the key api")
    return str(data_release)


def patients(session: client.Client, api: str, project: str) -> list[str]:
    """Return the submitter ids of a project's cases, sorted.

    Raises
    ------
    ConfigError
        GDC has no case of this project.
    """
    hits = _query(
        session,
        f"{api}/cases",
        [_field_in("project.project_id", [project])],
        ("case_id", "submitter_id"),
        "case_id",
    )
    if not hits:
        remedy = "names look like TCGA-LUAD or CPTAC-3: https://portal.gdc.cancer.gov/projects"
        raise ConfigError("project", f"GDC has no case of '{project}'", remedy)
    return sorted({str(hit["submitter_id"]) for hit in hits})


def slides(session: client.Client, api: str, project: str, kind: str) -> pl.DataFrame:
    """List a project's slide images: diagnostic ones (FFPE); with `all`, frozen tissue too.

    Returns
    -------
    polars.DataFrame
        A row per file, with the columns of `SCHEMA`; sorted by uuid.
    """
    hits = _query(
        session,
        f"{api}/files",
        [
            _field_in("cases.project.project_id", [project]),
            _field_in("data_type", ["Slide Image"]),
            _field_in("experimental_strategy", STRATEGIES[kind]),
            _field_in("access", ["open"]),
        ],
        FIELDS,
        "file_id",
    )
    return _file_table(hits, "slide", api)


def expression(
    session: client.Client, api: str, project: str, patient_ids: Iterable[str] | None = None
) -> pl.DataFrame:
    """List a project's open STAR-counts files, of all patients or of those in `patient_ids`.

    https://docs.gdc.cancer.gov/Data/Bioinformatics_Pipelines/Expression_mRNA_Pipeline/
    """
    filters = [
        _field_in("cases.project.project_id", [project]),
        _field_in("data_category", ["Transcriptome Profiling"]),
        _field_in("data_type", ["Gene Expression Quantification"]),
        _field_in("analysis.workflow_type", ["STAR - Counts"]),
        _field_in("access", ["open"]),
    ]
    if patient_ids is not None:
        filters.append(_field_in("cases.submitter_id", sorted(patient_ids)))
    return _file_table(
        _query(session, f"{api}/files", filters, FIELDS, "file_id"), "expression", api
    )


def sample_code(specimen: str | None, name: str | None) -> str | None:
    """Return the two-digit sample type, from the barcode if present, else from its name."""
    barcode = BARCODE.match(specimen or "")
    return barcode[1] if barcode else SAMPLE_TYPES.get(name or "")


def _field_in(field: str, values: list[str]) -> dict[str, Any]:
    """Return GDC's filter `field in values`."""
    return {"op": "in", "content": {"field": field, "value": values}}


def _query(
    session: client.Client,
    url: str,
    filters: list[dict[str, Any]],
    fields: Iterable[str],
    key: str,
) -> list[dict[str, Any]]:
    """Return all hits of a query; raise an error if the list changes between two pages."""
    hits: dict[str, dict[str, Any]] = {}
    total = None
    while total is None or len(hits) < total:
        body = {
            "filters": {"op": "and", "content": filters},
            "fields": ",".join(fields),
            "format": "JSON",
            "size": PAGE,
            "from": len(hits),
            "sort": f"{key}:asc",
        }
        answer = client.get_json(session, url, json=body)
        if answer.get("warnings"):
            log.info("%s: %s", url, answer["warnings"])
        try:
            page = {str(hit.get(key) or hit["id"]): hit for hit in answer["data"]["hits"]}
            count = int(answer["data"]["pagination"]["total"])
        except (KeyError, TypeError, ValueError) as error:
            cause = f"the answer has no {error}, which GDC's answers have"
            raise DownloadError(url, cause, "check the key api") from error
        changed = total not in (None, count) or hits.keys() & page.keys()
        if changed or (not page and len(hits) < count):
            cause = f"the list changed during reading ({len(hits)} of {count} files)"
            raise DownloadError(url, cause, "rerun the same command")
        total = count
        hits |= page
    return list(hits.values())


def _file_table(hits: list[dict[str, Any]], kind: str, api: str) -> pl.DataFrame:
    """Return the hits of a query as a table with the columns of `SCHEMA`."""
    try:
        rows = [_file_row(hit, kind, api) for hit in hits]
    except (AttributeError, KeyError, TypeError) as error:
        cause = f"an entry isn't in GDC's format ({error})"
        raise DownloadError(f"{api}/files", cause, "check the key api") from error
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("uuid")


def _file_row(hit: dict[str, Any], kind: str, api: str) -> Row:
    """Return the row of one file; ';' joins the ids of several patients or samples."""
    cases = hit.get("cases") or []
    samples = [sample for case in cases for sample in case.get("samples") or []]
    aliquots = [
        aliquot.get("submitter_id")
        for sample in samples
        for portion in sample.get("portions") or []
        for analyte in portion.get("analytes") or []
        for aliquot in analyte.get("aliquots") or []
    ]
    specimens = [sample.get("submitter_id") for sample in samples]
    codes = {sample_code(s.get("submitter_id"), s.get("sample_type")) or "" for s in samples}
    if kind == "slide" and BARCODE.match(hit["file_name"]):
        # The name of a TCGA slide contains its sample.
        specimens = [hit["file_name"][:16]]
        codes = {sample_code(hit["file_name"], None) or ""}
    uuid = hit.get("file_id") or hit["id"]
    return {
        "kind": kind,
        "uuid": uuid,
        "name": hit["file_name"],
        "md5": hit.get("md5sum"),
        "size": hit.get("file_size"),
        "state": hit.get("state"),
        "url": f"{api}/data/{uuid}",
        "patient_id": _join_ids(case.get("submitter_id") for case in cases),
        "specimen": _join_ids(specimens),
        "sample_type": ";".join(sorted(codes)) or None,
        # A slide's record lists the aliquots of its sample, which are not from the slide.
        "aliquot": _join_ids(aliquots) if kind == "expression" else None,
        "medium": hit.get("experimental_strategy") if kind == "slide" else None,
    }


def _join_ids(values: Iterable[str | None]) -> str | None:
    return ";".join(sorted({value for value in values if value})) or None
