"""Plans of small configurations, and wildcards of their jobs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from slide2rna.plan.plan import Plan

SHEET = {"source": "sheet", "sheet": "a.tsv", "expression": "a.csv"}
FILES = {"encoder": "files", "path": "mine"}
DEMO = {"cohorts": {"mine": {"source": "demo"}}}
COLOR = {"color": {"features": {"encoder": "color"}}}
ALONE = {"alone": {"group": "start", "model": {"outside": False}}}


def plan(settings: dict[str, Any] | None = None, /, **block: Any) -> Plan:
    """The plan of one cohort `mine`, the demo's unless its block says otherwise."""
    return Plan.of(
        {
            "cohorts": {"mine": {"source": "demo", "settings": settings or {}} | block},
            "results": "r",
        }
    )


def many(**top: Any) -> Plan:
    """The plan of cohorts A, B and C from sheets."""
    cohorts = {name: dict(SHEET) for name in "ABC"}
    return Plan.of({"results": "r", "folds": {"n": 2}, "cohorts": cohorts} | top)


def at(cohort: str = "mine", **names: str) -> Any:
    """Wildcards of a job."""
    return SimpleNamespace(cohort=cohort, **names)
