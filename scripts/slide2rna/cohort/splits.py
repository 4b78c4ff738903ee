"""Splits: folds of train, val, cal and test by split unit, drawn from a seed or read.

val stops the training and selects models, cal only calibrates intervals, test is used once. A
unit (a patient, unless the config names another) is never in two parts of a fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from slide2rna.core.errors import ConfigError, SheetError, list_names
from slide2rna.core.log import log
from slide2rna.core.seeds import seed_for
from slide2rna.core.settings import FoldsSettings
from slide2rna.storage.delimited import LINE, raise_for_rows, read_table

PARTS = ("train", "val", "cal", "test")
# With fewer units than this outside test, one is val and none is cal: train needs the rest.
SMALL = 6


def draw(units: pl.DataFrame, settings: FoldsSettings, seed: int) -> pl.DataFrame:
    """Draw folds; each unit is tested exactly once.

    Parameters
    ----------
    units
        unit, site (may be null); a row per unit, in any order.
    settings
        Section `folds`: n, by, val_share, cal_share.
    seed
        The run's seed. A unit's place depends on it, on the unit's name and on the set of other
        units, never on their order.

    Returns
    -------
    polars.DataFrame
        unit, fold, part; sorted by fold and unit.

    Notes
    -----
    `by: site` deals test parts round robin within each site, so a site's counts differ by at most
    one between folds; `by: patient` does the same regardless of site. `by: leave-site-out` assigns
    each site, the largest first, to the fold with the fewest test units so far; a test site is in
    no other part of its fold. With as many folds as units (leave one out), units are ordered by
    name: fold i tests unit i, and unit i+1 is val. With fewer than six units outside test, val is
    one unit and cal is empty; otherwise val has at least two units and cal, unless cal_share is 0,
    at least one.

    Raises
    ------
    ConfigError
        Fewer units than folds, or nothing left to train on; leave-site-out with too few sites or
        with units of unknown site.
    """
    n, names = settings["n"], units["unit"].sort().to_list()
    _check_counts(len(names), settings)
    one_each = n == len(names) and settings["by"] != "leave-site-out"
    if settings["by"] == "patient":
        units = units.with_columns(pl.lit(None, pl.String).alias("site"))
    if settings["by"] == "leave-site-out":
        test_fold = _assign_whole_sites(units, n, seed)
    elif one_each:
        test_fold = {unit: fold for fold, unit in enumerate(names)}
    else:
        order = _order_by_site(units, seed, "folds")
        test_fold = {unit: index % n for index, unit in enumerate(order)}
    rows = []
    for fold in range(n):
        remaining = units.filter(pl.col("unit").is_in([u for u in names if test_fold[u] != fold]))
        first = [names[(fold + 1) % n]] if one_each else []
        parts = _assign_parts(remaining, settings, seed, fold, first)
        rows += [(unit, fold, parts.get(unit, "test")) for unit in names]
    return _split_table(rows)


def _assign_whole_sites(units: pl.DataFrame, n: int, seed: int) -> dict[str, int]:
    """Return the test fold of each unit, whole sites together."""
    unknown = units.filter(pl.col("site").is_null())["unit"].sort().to_list()
    if unknown:
        cause = f"leave-site-out needs every site; that of {list_names(unknown)} is missing"
        raise ConfigError("folds.by", cause, "fill the column site, or use by: patient")
    sites = units.group_by("site").agg("unit").rows()
    if len(sites) < n:
        cause = f"{n} folds need as many sites to leave out; there are {len(sites)}"
        raise ConfigError("folds.n", cause, "set fewer folds, or use by: site")
    fold_sizes, test_fold = [0] * n, dict[str, int]()
    for site, members in sorted(sites, key=lambda s: (-len(s[1]), seed_for(seed, "sites", s[0]))):
        fold = fold_sizes.index(min(fold_sizes))
        fold_sizes[fold] += len(members)
        test_fold |= dict.fromkeys(members, fold)
        if units.height - fold_sizes[fold] < 2:
            cause = f"site {site} has {len(members)} of {units.height} split units"
            raise ConfigError("folds.by", cause, "use by: site")
    return test_fold


def _check_counts(count: int, settings: FoldsSettings) -> None:
    n = settings["n"]
    if n < 2:
        raise ConfigError("folds.n", "one fold can't be drawn", "give a split, or at least 2 folds")
    if n > count:
        remedy = f"set folds: {{n: {count}}}" if count >= 3 else "at least 3 units are needed"
        raise ConfigError("folds.n", f"{n} folds can't be made of {count} split units", remedy)
    if count - -(-count // n) < 2:
        cause = f"{count} split units in {n} folds leave no train unit"
        raise ConfigError("folds.n", cause, "give more units or more folds")
    if settings["val_share"] + settings["cal_share"] >= 1:
        raise ConfigError("folds", "val_share + cal_share leave no train unit", "lower them")


def _order_by_site(units: pl.DataFrame, seed: int, *names: object) -> list[str]:
    """Return units site by site, shuffled within each site by a hash of seed and name."""
    keyed = [
        (site or "", seed_for(seed, *names, unit), unit)
        for unit, site in units.select("unit", "site").rows()
    ]
    return [unit for _, _, unit in sorted(keyed)]


def _pick_evenly(ordered: Sequence[str], count: int) -> list[str]:
    """Pick `count` of the ordered units at even distances: each site contributes its share."""
    return [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]


def _assign_parts(
    remaining: pl.DataFrame, settings: FoldsSettings, seed: int, fold: int, first: list[str]
) -> dict[str, str]:
    """Assign units outside test to parts; those in `first` are always val."""
    total = remaining.height
    if total < SMALL:
        n_val, n_cal = 1, 0
    else:
        n_cal = max(1, round(settings["cal_share"] * total)) if settings["cal_share"] else 0
        n_cal = min(n_cal, total - 3)  # leave at least two val units and one train unit
        n_val = min(max(2, round(settings["val_share"] * total)), total - n_cal - 1)
    order = [unit for unit in _order_by_site(remaining, seed, "parts", fold) if unit not in first]
    val = first + (_pick_evenly(order, n_val - len(first)) if n_val > len(first) else [])
    order = [unit for unit in order if unit not in val]
    cal = _pick_evenly(order, n_cal) if n_cal else []
    return {u: "val" if u in val else "cal" if u in cal else "train" for u in remaining["unit"]}


def from_file(
    path: str | Path, units: pl.DataFrame, settings: FoldsSettings, seed: int
) -> pl.DataFrame:
    """Read a split file (patient_id or unit, fold, part) and use it unchanged.

    If a fold has no cal, a seeded draw moves a tenth (`cal_share`) of its train units there. Units
    of the file that the cohort lacks are dropped with a log line.

    Raises
    ------
    SheetError
        A wrong part or fold, a unit of the cohort that a fold lacks, or a unit listed twice.
    ConfigError
        The file's number of folds is not `folds.n`.
    """
    split = read_split(path)
    folds = split["fold"].n_unique()
    for fold in range(folds):
        fold_units = split.filter(pl.col("fold") == fold)["unit"].implode()
        missing = units.filter(~pl.col("unit").is_in(fold_units))["unit"].sort().to_list()
        if missing:
            cause = f"fold {fold} lacks {list_names(missing)}"
            raise SheetError(path, cause, "give every unit of the cohort a part in every fold")
    return table_from_split(path, split, units, settings, seed)


def read_split(path: str | Path) -> pl.DataFrame:
    """Read and check a split file.

    Returns
    -------
    polars.DataFrame
        unit, fold, part; each unit once per fold, folds numbered 0, 1, ...

    Raises
    ------
    SheetError
        A column is missing, a part or fold is wrong, or a fold lists a unit twice.
    """
    table = read_table(path)
    key = next((name for name in ("unit", "patient_id") if name in table.columns), None)
    missing = [name for name in ("fold", "part") if name not in table.columns]
    if key is None or missing:
        cause = f"column '{missing[0] if missing else 'patient_id'}' is missing"
        raise SheetError(path, cause, "a split has the columns patient_id (or unit), fold, part")
    table = table.rename({key: "unit"}).select(LINE, "unit", "fold", "part")
    bad = table.filter(~pl.col("part").is_in(PARTS) | pl.col("part").is_null())
    example = bad["part"][0] if bad.height else ""
    raise_for_rows(path, bad, f"part '{example}' is unknown", f"allowed are {', '.join(PARTS)}")
    bad = table.filter(~pl.col("fold").str.contains(r"^\d{1,6}$").fill_null(False))
    raise_for_rows(path, bad, "fold is not a whole number", "number the folds 0, 1, ...")
    table = table.with_columns(pl.col("fold").cast(pl.Int64))
    bad = table.filter(pl.struct("unit", "fold").is_duplicated())
    example = f"{bad['unit'][0]} in fold {bad['fold'][0]}" if bad.height else ""
    raise_for_rows(path, bad, f"{example} has more than one row", "name each unit once per fold")
    folds = table["fold"].unique().sort().to_list()
    if folds != list(range(len(folds))):
        raise SheetError(path, f"folds are numbered {folds[:6]}", "number them 0, 1, ...")
    return table.drop(LINE)


def table_from_split(
    path: str | Path, split: pl.DataFrame, units: pl.DataFrame, settings: FoldsSettings, seed: int
) -> pl.DataFrame:
    """Return the parts of the cohort's units by a split that lists all of them in every fold.

    Raises
    ------
    SheetError
        A fold without train, val or test.
    ConfigError
        The split's number of folds is not `folds.n`.
    """
    extra = split.filter(~pl.col("unit").is_in(units["unit"].implode()))["unit"].n_unique()
    if extra:
        log.info("%s: %d units that are not in the cohort are left out", path, extra)
    folds = split["fold"].n_unique()
    _check_fold_count(path, folds, settings)
    rows: list[tuple[str, int, str]] = []
    for fold in range(folds):
        parts = dict(split.filter(pl.col("fold") == fold).select("unit", "part").rows())
        rows += _add_cal(str(path), units, parts, fold, settings, seed)
    return _split_table(rows)


def from_column(
    path: str | Path, units: pl.DataFrame, settings: FoldsSettings, seed: int
) -> pl.DataFrame:
    """Make the split from a sheet's column: parts of one fold, or each unit's test fold.

    Parameters
    ----------
    units
        unit, site, split (list of the distinct values of the unit's slides).
    """
    mixed = units.filter((pl.col("split").list.len() != 1) | pl.col("split").list.first().is_null())
    if mixed.height:
        cause = f"{list_names(mixed['unit'].sort().to_list())} has several or missing split values"
        raise SheetError(path, cause, "give all slides of a unit the same split, and all units one")
    split = dict(units.select("unit", pl.col("split").list.first()).sort("unit").rows())
    if all(value in PARTS for value in split.values()):
        _check_fold_count(path, 1, settings)
        return _split_table(_add_cal(str(path), units, split, 0, settings, seed))
    if any(value in PARTS for value in split.values()):
        raise SheetError(path, "column split mixes parts and fold numbers", "use one of the two")
    folds = sorted({int(value) for value in split.values()})
    if folds != list(range(len(folds))):
        raise SheetError(path, f"column split has folds {folds[:6]}", "number them 0, 1, ...")
    _check_fold_count(path, len(folds), settings)
    rows = []
    for fold in folds:
        remaining = units.filter(
            pl.col("unit").is_in([u for u, v in split.items() if int(v) != fold])
        )
        if remaining.height < 2:
            raise SheetError(path, f"fold {fold} leaves no train unit", "test fewer units")
        parts = _assign_parts(remaining, settings, seed, fold, [])
        rows += [(unit, fold, parts.get(unit, "test")) for unit in split]
    return _split_table(rows)


def _check_fold_count(path: str | Path, folds: int, settings: FoldsSettings) -> None:
    if folds != settings["n"]:
        cause = f"{path} has {folds} folds but folds.n is {settings['n']}"
        raise ConfigError("folds.n", cause, f"set folds: {{n: {folds}}} for this cohort")


def _add_cal(
    path: str,
    units: pl.DataFrame,
    split_parts: dict[str, str],
    fold: int,
    settings: FoldsSettings,
    seed: int,
) -> list[tuple[str, int, str]]:
    """Return one fold's rows (unit, fold, part); move train units to cal if the split has none."""
    parts = {unit: split_parts[unit] for unit in units["unit"]}
    train = units.filter(pl.col("unit").is_in([u for u, part in parts.items() if part == "train"]))
    for part in ("train", "val", "test"):
        if part not in parts.values():
            cause = f"fold {fold} has no {part} unit of this cohort"
            raise SheetError(path, cause, "give train, val and test at least one unit each")
    if "cal" not in parts.values() and settings["cal_share"] and train.height >= SMALL:
        count = max(1, round(settings["cal_share"] * train.height))
        for unit in _pick_evenly(
            _order_by_site(train, seed, "cal", fold), min(count, train.height - 1)
        ):
            parts[unit] = "cal"
    return [(unit, fold, part) for unit, part in parts.items()]


def _split_table(rows: list[tuple[str, int, str]]) -> pl.DataFrame:
    schema = {"unit": pl.String, "fold": pl.Int64, "part": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("fold", "unit")
