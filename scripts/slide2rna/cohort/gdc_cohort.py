"""GDC cohorts (CPTAC slides come from PathDB): frozen once, then read from local files."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired, TypedDict

import polars as pl

from slide2rna.cohort import gdc, manifest, pairing, pathdb
from slide2rna.cohort.expression import read_expression, read_genes
from slide2rna.cohort.published_splits import PublishedFacts
from slide2rna.core.config import Settings, manifest_path
from slide2rna.core.errors import ConfigError, DownloadError
from slide2rna.core.files import sha256sum, write_json
from slide2rna.core.log import log
from slide2rna.core.types import Row
from slide2rna.transfer import batch, resumable
from slide2rna.transfer import client as transfer_client

# The genes of SEQUOIA and RNA-FM, one per line; commit and hash pin the list.
PUBLISHED = (
    "https://raw.githubusercontent.com/gevaertlab/sequoia-pub/"
    "daafd609c941e64a5726509ee3dacb0268b56f96/examples/gene_list.csv"
)
PUBLISHED_SHA256 = "d852c20484807a879dbf6102fb8e3691db139ad6e79efb42dc4fcd897e7ab615"


class Acquisition(TypedDict):
    """Entry of cohort.json about the sources of a GDC cohort."""

    project: str
    release: str
    slides_from: str
    manifest_sha256: str
    expression_flow: list[Row]
    patients_with_several_slides: int


class CohortAudit(TypedDict):
    """Entries of cohort.json about sources, dropped rows, and slides left after each step."""

    flow: list[Row]
    dropped: list[Row]
    acquisition: NotRequired[Acquisition]
    published_splits: NotRequired[PublishedFacts]


def read_or_freeze(
    name: str, source: Settings, out: Path
) -> tuple[pl.DataFrame, pl.DataFrame, CohortAudit]:
    """Read slides and expression of a GDC cohort.

    A missing manifest is frozen first. Expression files that `out`/star lacks or that have a wrong
    md5 are downloaded; if all of them and the gene list exist, no connection is made.

    Parameters
    ----------
    name
        The cohort's name.
    source
        The cohort's block of the configuration.
    out
        results/<cohort>.

    Returns
    -------
    tuple
        Slides (slide_id, patient_id, sample_id, site, url, md5, size; no path yet), expression as
        `read_expression` returns it, and for cohort.json: flow, dropped, acquisition.

    Raises
    ------
    ConfigError, SheetError, DownloadError
        One line each.
    """
    path = manifest_path(name, source)
    settings = transfer_client.ServerSettings(token=transfer_client.read_token(), api=source["api"])
    if path.is_file():
        log.info("%s: using this manifest; no server is asked for a list of files", path)
    else:
        freeze(source, path, out, settings)
        # The plan compares it: a manifest that is edited later reruns the cohort.
        write_json({"sha256": sha256sum(path)}, out / "frozen_manifest.json")
    table = manifest.read(path)
    paired = table.filter(pl.col("reason").is_null())
    slides = paired.filter(pl.col("kind") == "slide")
    stars = paired.filter(pl.col("kind") == "expression")
    if slides.is_empty():
        raise ConfigError(path, "no slide is paired with expression", _pairing_remedy(table))
    _fetch_star_files(stars, out / "star", settings)
    expression = read_expression(
        out / "star",
        column=source["expression_column"],
        genes=gene_list(source, out),
        samples=slides["sample_id"].unique().to_list(),
        gene_types=source.get("gene_types"),
    )
    audit: CohortAudit = {
        "flow": pairing.flow(table),
        "dropped": pairing.dropped(table),
        "acquisition": {
            "project": source["project"],
            "release": stars["release"][0],
            "slides_from": slides["release"][0],
            "manifest_sha256": sha256sum(path),
            "expression_flow": pairing.flow(table, "expression"),
            "patients_with_several_slides": slides.filter(pl.col("slides_of_patient") > 1)[
                "patient_id"
            ].n_unique(),
        },
    }
    return slides, expression, audit


def freeze(
    source: Settings, path: Path, out: Path, settings: transfer_client.ServerSettings
) -> None:
    """List the files at GDC (CPTAC slides at PathDB), pair them and write the manifest.

    Raises
    ------
    ConfigError, DownloadError
        An unknown project or collection; a server that can't be reached or sends nonsense.
    """
    api, project, kind = source["api"], source["project"], source["slide_kind"]
    with transfer_client.session(settings) as client:
        release = gdc.release(client, api)
        patients = gdc.patients(client, api, project)
        releases = {"slide": release, "expression": release}
        if source.get("slide_list"):
            slides = manifest.read_gdc(source["slide_list"], api)
            releases["slide"] = Path(source["slide_list"]).name
        elif source.get("collection"):
            local_table = source.get("pathdb_table")
            table = Path(local_table or out / "pathdb-slides.csv")
            if not local_table:
                pathdb.fetch_table(source["pathdb"], table, settings)
            slides = pathdb.slides(client, source["pathdb"], source["collection"], table)
            releases["slide"] = f"PathDB {source['collection']}, {Path(pathdb.TABLE).name}"
        else:
            slides = gdc.slides(client, api, project, kind)
        collection_patients = None
        if source.get("collection"):
            # CPTAC-3 covers a dozen cancers; a collection covers one.
            collection_patients = sorted(set(slides["patient_id"].drop_nulls()))
            patients = [patient for patient in patients if patient in set(collection_patients)]
        stars = gdc.expression(client, api, project, collection_patients)
    log.info("%s: %d slides, %d expression files", project, slides.height, stars.height)
    types = tuple(source["sample_types"])
    manifest.write(pairing.pair(slides, stars, patients, kind, types), releases, path)


def gene_list(source: Settings, out: Path) -> list[str] | None:
    """Return the genes to keep: all (None), those of a file, or the published 20,820.

    The published list is downloaded once to `out`/genes_published.csv and rejected if its sha256
    differs; `genes_mirror` is another address of the list, or a file.

    Raises
    ------
    DownloadError
        The list can't be downloaded, or isn't the published one.
    """
    genes = source.get("genes")
    if genes != "published":
        return read_genes(genes) if genes else None
    mirror = source.get("genes_mirror") or PUBLISHED
    is_url = mirror.startswith(("http://", "https://"))
    path = out / "genes_published.csv" if is_url else Path(mirror)
    if is_url and not path.is_file():
        settings = transfer_client.ServerSettings()
        with transfer_client.session(settings) as client:
            resumable.fetch_file(client, mirror, path, None, None, settings)
    if not path.is_file():
        raise DownloadError(path, "the gene list is missing", "fix genes_mirror")
    if sha256sum(path) != PUBLISHED_SHA256:
        if is_url:
            path.unlink()
        cause = f"{mirror} isn't the published gene list (its sha256 differs)"
        raise DownloadError(path, cause, "give the list as a file: genes_mirror")
    return read_genes(path)


def _fetch_star_files(
    stars: pl.DataFrame, folder: Path, settings: transfer_client.ServerSettings
) -> None:
    """Download the expression files that are missing or have a wrong md5."""
    jobs = [
        resumable.Download(
            row["url"], batch.safe_path(folder, f"{row['sample_id']}.tsv"), row["md5"], row["size"]
        )
        for row in stars.iter_rows(named=True)
    ]
    errors = [error for error in batch.fetch_all(jobs, settings).values() if error]
    if errors:
        cause = f"{len(errors)} of {len(jobs)} expression files are missing: {errors[0]}"
        raise DownloadError(folder, cause, "rerun the same command: finished downloads are kept")


def _pairing_remedy(table: pl.DataFrame) -> str:
    """Return the remedy for a cohort without paired slides: the most frequent reason."""
    reasons = table.filter(pl.col("kind") == "slide")["reason"].value_counts(sort=True)
    if reasons.is_empty():
        return "the project has no slide of this kind; CPTAC needs the key collection"
    return f"most often: {reasons['reason'][0]}; see slide_kind and sample_types"
