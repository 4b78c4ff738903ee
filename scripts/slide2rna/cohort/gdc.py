"""What GDC has: the release, a project's patients, its slides and its STAR counts.

Every query is a POST whose filters are JSON, read page by page in a fixed order:
https://docs.gdc.cancer.gov/API/Users_Guide/Search_and_Retrieval/
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import polars as pl

from slide2rna.core.errors import ConfigError, DownloadError
from slide2rna.core.log import log
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
# Codes of the TCGA barcode; other projects give the name alone.
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
    """GDC's data release, from `/status`.

    https://docs.gdc.cancer.gov/API/Users_Guide/Search_and_Retrieval/#status-endpoint
    """
    found = client.get_json(session, f"{api}/status").get("data_release")
    if not found:
        raise DownloadError(f"{api}/status", "no data_release in the answer", "check the key api")
    return str(found)


def patients(session: client.Client, api: str, project: str) -> list[str]:
    """Submitter ids of a project's cases, sorted.

    Raises
    ------
    ConfigError
        GDC knows no case of this project.
    """
    hits = _query(
        session,
        f"{api}/cases",
        [_is("project.project_id", [project])],
        ("case_id", "submitter_id"),
        "case_id",
    )
    if not hits:
        remedy = "names look like TCGA-LUAD or CPTAC-3: https://portal.gdc.cancer.gov/projects"
        raise ConfigError("project", f"GDC has no case of '{project}'", remedy)
    return sorted({str(hit["submitter_id"]) for hit in hits})


def slides(session: client.Client, api: str, project: str, kind: str) -> pl.DataFrame:
    """A project's slide images: diagnostic ones (FFPE), or with `all` the frozen tissue's too.

    Returns
    -------
    polars.DataFrame
        A row per file, with the columns of `SCHEMA`; sorted by uuid.
    """
    hits = _query(
        session,
        f"{api}/files",
        [
            _is("cases.project.project_id", [project]),
            _is("data_type", ["Slide Image"]),
            _is("experimental_strategy", STRATEGIES[kind]),
            _is("access", ["open"]),
        ],
        FIELDS,
        "file_id",
    )
    return _table(hits, "slide", api)


def expression(
    session: client.Client, api: str, project: str, only: Iterable[str] | None = None
) -> pl.DataFrame:
    """A project's open STAR-counts files, of all patients or of those in `only`.

    https://docs.gdc.cancer.gov/Data/Bioinformatics_Pipelines/Expression_mRNA_Pipeline/
    """
    filters = [
        _is("cases.project.project_id", [project]),
        _is("data_category", ["Transcriptome Profiling"]),
        _is("data_type", ["Gene Expression Quantification"]),
        _is("analysis.workflow_type", ["STAR - Counts"]),
        _is("access", ["open"]),
    ]
    if only is not None:
        filters.append(_is("cases.submitter_id", sorted(only)))
    return _table(_query(session, f"{api}/files", filters, FIELDS, "file_id"), "expression", api)


def sample_code(specimen: str | None, name: str | None) -> str | None:
    """Two digits of the sample type: from the barcode if there is one, else from its name."""
    found = BARCODE.match(specimen or "")
    return found[1] if found else SAMPLE_TYPES.get(name or "")


def _is(field: str, values: list[str]) -> dict[str, Any]:
    return {"op": "in", "content": {"field": field, "value": values}}


def _query(
    session: client.Client,
    url: str,
    filters: list[dict[str, Any]],
    fields: Iterable[str],
    key: str,
) -> list[dict[str, Any]]:
    """All hits of a query; one that changed between two pages is refused, not mixed."""
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
            cause = f"the answer has no {error} as GDC's have"
            raise DownloadError(url, cause, "check the key api") from error
        changed = total not in (None, count) or hits.keys() & page.keys()
        if changed or (not page and len(hits) < count):
            cause = f"the list changed while it was read ({len(hits)} of {count} files)"
            raise DownloadError(url, cause, "run it again")
        total = count
        hits |= page
    return list(hits.values())


def _table(hits: list[dict[str, Any]], kind: str, api: str) -> pl.DataFrame:
    try:
        rows = [_row(hit, kind, api) for hit in hits]
    except (AttributeError, KeyError, TypeError) as error:
        cause = f"a file isn't described as GDC describes them ({error})"
        raise DownloadError(f"{api}/files", cause, "check the key api") from error
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("uuid")


def _row(hit: dict[str, Any], kind: str, api: str) -> dict[str, Any]:
    """One file; ids are joined by ';' where it belongs to several patients or samples."""
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
        # A TCGA slide says itself which sample it is of.
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
        "patient_id": _joined(case.get("submitter_id") for case in cases),
        "specimen": _joined(specimens),
        "sample_type": ";".join(sorted(codes)) or None,
        # A slide's sample lists the aliquots that were made of it, which are not the slide's.
        "aliquot": _joined(aliquots) if kind == "expression" else None,
        "medium": hit.get("experimental_strategy") if kind == "slide" else None,
    }


def _joined(values: Iterable[str | None]) -> str | None:
    return ";".join(sorted({value for value in values if value})) or None
