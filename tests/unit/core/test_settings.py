"""Types of settings and of rows against the schema and the tables that they describe."""

from __future__ import annotations

from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

import polars as pl
import pytest
from slide2rna.cohort import freeze
from slide2rna.core import config, rows, settings
from slide2rna.evaluation.scoring import summary
from slide2rna.features import extract
from slide2rna.slides import download, tiles

NETWORKS = {
    "he2rna": settings.He2rnaSettings,
    "trnasformer": settings.TrnasformerSettings,
    "sequoia": settings.SequoiaSettings,
    "abmil": settings.AbmilSettings,
}
SECTIONS = {
    "folds": settings.FoldsSettings,
    "tiles": settings.TilesSettings,
    "features": settings.FeaturesSettings,
    "bags": settings.BagsSettings,
    "pathways": settings.PathwaysSettings,
    "model": settings.ModelSettings,
    "train": settings.TrainSettings,
    "sample": settings.SampleSettings,
    "evaluate": settings.EvaluateSettings,
    "shift": settings.ShiftSettings,
    "stain": settings.StainSettings,
    "leak_audit": settings.LeakAuditSettings,
    "samplers": settings.SamplersSettings,
}


def assert_typed(value: dict[str, Any], kind: type, where: str) -> None:
    """Every key of the type is in the value with a value of its type, and no other key."""
    hints = get_type_hints(kind)
    assert value.keys() - {"search"} == hints.keys(), where
    for key, hint in hints.items():
        assert_value(value[key], hint, f"{where}.{key}")


def assert_value(value: Any, hint: Any, where: str) -> None:
    if is_typeddict(hint):
        assert_typed(value, hint, where)
    elif get_origin(hint) is list:
        assert isinstance(value, list), where
        for item in value:
            assert_value(item, get_args(hint)[0], where)
    elif get_origin(hint) is dict:
        assert isinstance(value, dict), where
    elif choices := get_args(hint):  # a Literal's values, or the types of a union
        types = tuple(choice for choice in choices if isinstance(choice, type))
        assert isinstance(value, types) if types else value in choices, where
    else:
        kinds = (int, float) if hint is float else (hint,)
        assert isinstance(value, kinds), where
        assert isinstance(value, bool) == (hint is bool), where


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_a_section_has_the_keys_of_its_type(section: str) -> None:
    assert_typed(config.defaults(section), SECTIONS[section], section)


def test_every_section_and_network_has_a_type() -> None:
    baselines = config.defaults("baselines")
    assert baselines.keys() == NETWORKS.keys()
    for name, kind in NETWORKS.items():
        assert_typed(baselines[name], kind, name)
    threads = config.validate({"cohorts": {"demo": {"source": "demo"}}})["threads"]
    assert_typed(threads, settings.ThreadsSettings, "threads")
    assert SECTIONS.keys() | {"baselines"} == set(config.SECTIONS)


def test_choices_are_those_of_the_schema() -> None:
    schema = config._schema()["$defs"]
    checked = 0
    for section, kind in SECTIONS.items():
        hints = get_type_hints(kind)
        for key, field in schema[section]["properties"].items():
            if "enum" in field:
                assert set(get_args(hints[key])) == set(field["enum"]), f"{section}.{key}"
                checked += 1
    assert checked >= 8


def test_rows_have_the_columns_of_their_tables() -> None:
    checked = download.checked_table([], freeze.SCHEMA)
    for kind, columns in (
        (rows.SlideRow, freeze.SCHEMA),
        (rows.CheckedSlideRow, checked.schema),
        (rows.TilesRow, tiles.MANIFEST_SCHEMA),
        (rows.FeaturesRow, extract.MANIFEST_SCHEMA),
        (rows.SummaryRow, summary.SCHEMA),
    ):
        assert list(get_type_hints(kind)) == list(columns)
    types = {pl.String: str, pl.Int64: int, pl.Float64: float}
    for key, hint in get_type_hints(rows.SlideRow).items():
        assert types[freeze.SCHEMA[key]] in (hint, *get_args(hint)), key
