"""What the preflight asks of a configuration: its files, the size of its jobs, its servers."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple

from slide2rna.core import config
from slide2rna.core.errors import UserError

SLIDES_PER_SHARD = 64
NETWORK_S = 3.0
GDC, HUB = "https://api.gdc.cancer.gov", "https://huggingface.co"


class Finding(NamedTuple):
    """What one check found: `status` is ok, warn or fail."""

    status: str
    what: str
    detail: str
    remedy: str = ""

    def line(self) -> str:
        remedy = f" -> {self.remedy}" if self.remedy and self.status != "ok" else ""
        return f"{self.status:4}  {self.what}: {self.detail}{remedy}"


def check_config(path: str | Path) -> Finding:
    """The configuration is valid and the files that it names are there."""
    try:
        settings = config.load(path)
    except UserError as error:
        return Finding("fail", "config", str(error), "")
    for name, cohort in settings["cohorts"].items():
        for key in ("sheet", "expression", "splits", "genes", "path"):
            if cohort.get(key, "published") == "published":
                continue
            if not Path(cohort[key]).exists():
                detail = f"{path}: cohorts.{name}.{key}: {cohort[key]} is not there"
                return Finding("fail", "config", detail, "put it there or mend the path")
    return Finding("ok", "config", f"{path}: cohorts {', '.join(settings['cohorts'])}")


def check_shards(settings: config.Settings) -> list[Finding]:
    """How many slides each cohort has, where a table says so, and in how many jobs they go."""
    found = []
    for name, cohort in settings["cohorts"].items():
        table = Path(cohort.get("sheet") or cohort.get("manifest") or f"manifests/{name}.tsv")
        if cohort["source"] not in ("sheet", "gdc") or not table.is_file():
            continue
        try:
            slides = _count(table)
        except UserError as error:
            found.append(Finding("fail", f"slides of {name}", str(error)))
            continue
        shards, wanted = cohort["shards"], -(-slides // SLIDES_PER_SHARD)
        detail = f"{slides} in {shards} shard{'s' if shards > 1 else ''}"
        good = wanted / 2 <= shards <= slides
        remedy = f"set cohorts.{name}.shards: {wanted} (about {SLIDES_PER_SHARD} slides a job)"
        found.append(Finding("ok" if good else "warn", f"slides of {name}", detail, remedy))
    return found


def _count(table: Path) -> int:
    """Slides in a sample sheet, or in a frozen manifest those that are kept."""
    from slide2rna.core.delimited import MISSING, read_table

    rows = read_table(table)
    if "kind" in rows.columns and "left_at" in rows.columns:
        rows = rows.filter((rows["kind"] == "slide") & rows["left_at"].is_in(MISSING))
    return rows.height


def check_network(settings: config.Settings | None) -> Finding:
    """Whether the servers that a configuration needs answer, in three seconds; a warning at most.

    Any answer counts, a refusal too: what is asked here is whether there is a way to them.
    """
    wanted = _servers(settings)
    if not wanted:
        return Finding("ok", "network", "nothing in this configuration needs it")
    import requests

    answers: dict[str, bool] = {}

    def ask(url: str) -> None:
        try:
            requests.head(url, timeout=NETWORK_S, allow_redirects=False)
            answers[url] = True
        except (requests.RequestException, OSError):
            answers[url] = False

    # Looking a name up has no time-out of its own, so nobody waits for the threads to end.
    asking = [threading.Thread(target=ask, args=(url,), daemon=True) for url in wanted]
    for thread in asking:
        thread.start()
    end = time.monotonic() + NETWORK_S
    for thread in asking:
        thread.join(max(0.0, end - time.monotonic()))
    silent = [f"{url} ({what})" for url, what in wanted.items() if not answers.get(url)]
    if not silent:
        return Finding("ok", "network", f"{', '.join(wanted)} answer")
    remedy = "set HTTPS_PROXY if there is one, or see docs/how-to/offline.md"
    return Finding("warn", "network", f"no answer from {', '.join(silent)}", remedy)


def _servers(settings: config.Settings | None) -> dict[str, str]:
    """The servers that a run would ask, and for what; without a configuration the usual two."""
    if settings is None:
        return {GDC: "TCGA cohorts", HUB: "weights of encoders"}
    found = {}
    for name, cohort in settings["cohorts"].items():
        if cohort["source"] == "gdc":
            found[cohort["api"]] = f"cohort {name}"
            if "collection" in cohort:
                found[cohort["pathdb"]] = f"slides of {name}"
        features = config.for_cohort(settings, name)["features"]
        own = cohort["source"] == "law" or features["weights"] is not None
        if features["encoder"] not in ("lite0", "color", "files") and not own:
            found[HUB] = f"weights of {features['encoder']}"
    return found
