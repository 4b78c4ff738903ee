"""Preflight checks of a configuration: its files, the size of its jobs, its servers."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple

from slide2rna.core import config, encoder_names
from slide2rna.core.errors import UserError

SLIDES_PER_SHARD = 64
NETWORK_S = 3.0
GDC, HUB = "https://api.gdc.cancer.gov", "https://huggingface.co"


class Finding(NamedTuple):
    """The result of one check: `status` is ok, warn or fail."""

    status: str
    subject: str
    detail: str
    remedy: str = ""

    def line(self) -> str:
        """Return the finding as a line, with its remedy unless it is ok."""
        remedy = f" -> {self.remedy}" if self.remedy and self.status != "ok" else ""
        return f"{self.status:4}  {self.subject}: {self.detail}{remedy}"


def check_config(path: str | Path) -> Finding:
    """Check that the configuration is valid and that the files it names exist."""
    try:
        settings = config.load(path)
    except UserError as error:
        return Finding("fail", "config", str(error), "")
    for name, cohort in settings["cohorts"].items():
        for key in ("sheet", "expression", "splits", "genes", "path"):
            if cohort.get(key, "published") == "published":
                continue
            if not Path(cohort[key]).exists():
                detail = f"{path}: cohorts.{name}.{key}: {cohort[key]} is missing"
                return Finding("fail", "config", detail, "put the file there, or fix the path")
    return Finding("ok", "config", f"{path}: cohorts {', '.join(settings['cohorts'])}")


def check_shards(settings: config.Settings) -> list[Finding]:
    """Compare each cohort's number of shards with its slides, if a table lists them."""
    findings = []
    for name, cohort in settings["cohorts"].items():
        table = Path(cohort.get("sheet") or config.manifest_path(name, cohort))
        if cohort["source"] not in ("sheet", "gdc") or not table.is_file():
            continue
        try:
            slides = _count_slides(table)
        except UserError as error:
            findings.append(Finding("fail", f"slides of {name}", str(error)))
            continue
        shards, suggested = cohort["shards"], -(-slides // SLIDES_PER_SHARD)
        detail = f"{slides} in {shards} shard{'s' if shards > 1 else ''}"
        good = suggested / 2 <= shards <= slides
        remedy = f"set cohorts.{name}.shards: {suggested} (about {SLIDES_PER_SHARD} slides per job)"
        status = "ok" if good else "warn"
        findings.append(Finding(status, f"slides of {name}", detail, remedy))
    return findings


def _count_slides(table: Path) -> int:
    """Count the slides of a sample sheet, or the included slides of a frozen manifest."""
    from slide2rna.core.delimited_text import MISSING
    from slide2rna.storage.delimited import read_table

    rows = read_table(table)
    if "kind" in rows.columns and "left_at" in rows.columns:
        rows = rows.filter((rows["kind"] == "slide") & rows["left_at"].is_in(MISSING))
    return rows.height


def check_network(settings: config.Settings | None) -> Finding:
    """Check that the servers of a configuration answer within three seconds; otherwise warn.

    Any answer counts, even a refusal: this check tests only the connection.
    """
    purposes = _server_purposes(settings)
    if not purposes:
        return Finding("ok", "network", "not needed for this configuration")
    import requests

    answers: dict[str, bool] = {}

    def ask(url: str) -> None:
        try:
            requests.head(url, timeout=NETWORK_S, allow_redirects=False)
            answers[url] = True
        except (requests.RequestException, OSError):
            answers[url] = False

    # A DNS lookup has no time-out, so nothing waits for the threads to end.
    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in purposes]
    for thread in threads:
        thread.start()
    end = time.monotonic() + NETWORK_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    silent = [f"{url} ({purpose})" for url, purpose in purposes.items() if not answers.get(url)]
    if not silent:
        return Finding("ok", "network", f"{', '.join(purposes)} answer")
    remedy = "set HTTPS_PROXY if there is one (SOCKS needs pysocks), or see docs/how-to/offline.md"
    return Finding("warn", "network", f"no answer from {', '.join(silent)}", remedy)


def _server_purposes(settings: config.Settings | None) -> dict[str, str]:
    """Return the purpose of each server of a run; without a configuration, of the usual two."""
    if settings is None:
        return {GDC: "TCGA cohorts", HUB: "weights of encoders"}
    purposes = {}
    for name, cohort in settings["cohorts"].items():
        if cohort["source"] == "gdc":
            purposes[cohort["api"]] = f"cohort {name}"
            if "collection" in cohort:
                purposes[cohort["pathdb"]] = f"slides of {name}"
        features = config.for_cohort(settings, name)["features"]
        for encoder in encoder_names.names(features):
            local = encoder_names.of_one(features, encoder)["weights"] is not None
            local = local or cohort["source"] in ("law", "law2")
            if encoder not in ("lite0", "color", "files") and not local:
                purposes[HUB] = f"weights of {encoder}"
    return purposes
