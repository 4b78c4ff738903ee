"""Folds of train, val, cal and test by split unit: drawn from the seed, or given.

val stops the training and picks, cal calibrates intervals and nothing else, test is touched
once. A unit (a patient, unless the config names another) is never in two parts of a fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from slide2rna.core.config import Settings
from slide2rna.core.delimited import LINE, raise_for_rows, read_table
from slide2rna.core.errors import ConfigError, SheetError, listing
from slide2rna.core.log import log
from slide2rna.core.seeds import seed_for

PARTS = ("train", "val", "cal", "test")
# With fewer units than this outside test, one is val, none is cal: train needs the others.
SMALL = 6


def draw(units: pl.DataFrame, settings: Settings, seed: int) -> pl.DataFrame:
    """Draw folds; each unit is tested exactly once.

    Parameters
    ----------
    units
        unit, site (may be null); a row per unit, in any order.
    settings
        Section `folds`: n, by, val_share, cal_share.
    seed
        The run's seed. A unit's place depends on it, on the unit's name and on which other units
        there are, never on their order.

    Returns
    -------
    polars.DataFrame
        unit, fold, part; sorted by fold and unit.

    Notes
    -----
    `by: site` deals test parts round robin within each site, so a site's counts differ by at most
    one between folds; `by: patient` does the same without looking at sites. `by: leave-site-out`
    gives each site, the largest first, to the fold that tests fewest units so far; a tested
    site is in no other part of its fold. With as many folds as units (leave one out), units go by
    name: fold i tests unit i and unit i+1 is val. With fewer than six units outside test, val is
    one unit and cal is empty; otherwise val has at least two and cal, if asked for, at least one.

    Raises
    ------
    ConfigError
        Fewer units than folds, or nothing left to train on; leave-site-out with too few sites or
        with units whose site isn't known.
    """
    n, names = settings["n"], units["unit"].sort().to_list()
    _check_counts(len(names), settings)
    one_each = n == len(names) and settings["by"] != "leave-site-out"
    if settings["by"] == "patient":
        units = units.with_columns(pl.lit(None, pl.String).alias("site"))
    if settings["by"] == "leave-site-out":
        tested = _whole_sites(units, n, seed)
    elif one_each:
        tested = {unit: fold for fold, unit in enumerate(names)}
    else:
        order = _by_site(units, seed, "folds")
        tested = {unit: index % n for index, unit in enumerate(order)}
    rows = []
    for fold in range(n):
        rest = units.filter(pl.col("unit").is_in([u for u in names if tested[u] != fold]))
        first = [names[(fold + 1) % n]] if one_each else []
        parts = _divide(rest, settings, seed, fold, first)
        rows += [(unit, fold, parts.get(unit, "test")) for unit in names]
    return _table(rows)


def _whole_sites(units: pl.DataFrame, n: int, seed: int) -> dict[str, int]:
    """The fold that tests each unit, whole sites together."""
    unknown = units.filter(pl.col("site").is_null())["unit"].sort().to_list()
    if unknown:
        cause = f"leave-site-out needs every site, and that of {listing(unknown)} isn't known"
        raise ConfigError("folds.by", cause, "fill the column site, or use by: patient")
    sites = units.group_by("site").agg("unit").rows()
    if len(sites) < n:
        cause = f"{n} folds can't leave out whole sites, there are {len(sites)}"
        raise ConfigError("folds.n", cause, "set fewer folds, or use by: site")
    load, tested = [0] * n, dict[str, int]()
    for site, members in sorted(sites, key=lambda s: (-len(s[1]), seed_for(seed, "sites", s[0]))):
        fold = load.index(min(load))
        load[fold] += len(members)
        tested |= dict.fromkeys(members, fold)
        if units.height - load[fold] < 2:
            cause = f"site {site} has {len(members)} of {units.height} split units"
            raise ConfigError("folds.by", cause, "use by: site")
    return tested


def _check_counts(count: int, settings: Settings) -> None:
    n = settings["n"]
    if n < 2:
        raise ConfigError("folds.n", "one fold can't be drawn", "give a split, or at least 2 folds")
    if n > count:
        remedy = f"set folds: {{n: {count}}}" if count >= 3 else "at least 3 units are needed"
        raise ConfigError("folds.n", f"{n} folds can't be made of {count} split units", remedy)
    if count - -(-count // n) < 2:
        cause = f"{count} split units in {n} folds leave none to train on"
        raise ConfigError("folds.n", cause, "give more units or more folds")
    if settings["val_share"] + settings["cal_share"] >= 1:
        raise ConfigError("folds", "val_share + cal_share leave nothing to train on", "lower them")


def _by_site(units: pl.DataFrame, seed: int, *names: object) -> list[str]:
    """Units site by site, shuffled within the site by a hash of seed and name."""
    keyed = [
        (site or "", seed_for(seed, *names, unit), unit)
        for unit, site in units.select("unit", "site").rows()
    ]
    return [unit for _, _, unit in sorted(keyed)]


def _spread(ordered: Sequence[str], count: int) -> list[str]:
    """`count` of the ordered units at even distances: each site gives its share."""
    return [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]


def _divide(
    rest: pl.DataFrame, settings: Settings, seed: int, fold: int, first: list[str]
) -> dict[str, str]:
    """Parts of the units outside test; `first` are val whatever the draw says."""
    total = rest.height
    if total < SMALL:
        n_val, n_cal = 1, 0
    else:
        n_cal = max(1, round(settings["cal_share"] * total)) if settings["cal_share"] else 0
        n_cal = min(n_cal, total - 3)  # large shares of few units: two val and one train stay
        n_val = min(max(2, round(settings["val_share"] * total)), total - n_cal - 1)
    order = [unit for unit in _by_site(rest, seed, "parts", fold) if unit not in first]
    val = first + (_spread(order, n_val - len(first)) if n_val > len(first) else [])
    order = [unit for unit in order if unit not in val]
    cal = _spread(order, n_cal) if n_cal else []
    return {u: "val" if u in val else "cal" if u in cal else "train" for u in rest["unit"]}


def from_file(path: str | Path, units: pl.DataFrame, settings: Settings, seed: int) -> pl.DataFrame:
    """Read a given split (patient_id or unit, fold, part) and use it as it is.

    Where a fold has no cal, a tenth (`cal_share`) of its train units is set aside for it, by unit
    and seeded. Units of the file that the cohort doesn't have are left out with a log line.

    Raises
    ------
    SheetError
        A wrong part or fold, a unit of the cohort that a fold doesn't name, or one named twice.
    ConfigError
        The file's number of folds is not `folds.n`.
    """
    given = read_split(path)
    folds = given["fold"].n_unique()
    for fold in range(folds):
        named = given.filter(pl.col("fold") == fold)["unit"].implode()
        lost = units.filter(~pl.col("unit").is_in(named))["unit"].sort().to_list()
        if lost:
            cause = f"fold {fold} doesn't name {listing(lost)}"
            raise SheetError(path, cause, "give every unit of the cohort a part in every fold")
    return table_from_split(path, given, units, settings, seed)


def read_split(path: str | Path) -> pl.DataFrame:
    """A split file as it stands, checked.

    Returns
    -------
    polars.DataFrame
        unit, fold, part; each unit once per fold, folds numbered 0, 1, ...

    Raises
    ------
    SheetError
        A column is missing, a wrong part or fold, or a unit that a fold names twice.
    """
    table = read_table(path)
    key = next((name for name in ("unit", "patient_id") if name in table.columns), None)
    absent = [name for name in ("fold", "part") if name not in table.columns]
    if key is None or absent:
        cause = f"column '{absent[0] if absent else 'patient_id'}' is missing"
        raise SheetError(path, cause, "a split has the columns patient_id (or unit), fold, part")
    table = table.rename({key: "unit"}).select(LINE, "unit", "fold", "part")
    bad = table.filter(~pl.col("part").is_in(PARTS) | pl.col("part").is_null())
    shown = bad["part"][0] if bad.height else ""
    raise_for_rows(path, bad, f"part '{shown}' is unknown", f"allowed are {', '.join(PARTS)}")
    bad = table.filter(~pl.col("fold").str.contains(r"^\d{1,6}$").fill_null(False))
    raise_for_rows(path, bad, "fold is not a whole number", "number the folds 0, 1, ...")
    table = table.with_columns(pl.col("fold").cast(pl.Int64))
    bad = table.filter(pl.struct("unit", "fold").is_duplicated())
    shown = f"{bad['unit'][0]} in fold {bad['fold'][0]}" if bad.height else ""
    raise_for_rows(path, bad, f"{shown} has more than one row", "name each unit once per fold")
    folds = table["fold"].unique().sort().to_list()
    if folds != list(range(len(folds))):
        raise SheetError(path, f"folds are numbered {folds[:6]}", "number them 0, 1, ...")
    return table.drop(LINE)


def table_from_split(
    path: str | Path, given: pl.DataFrame, units: pl.DataFrame, settings: Settings, seed: int
) -> pl.DataFrame:
    """The parts of the cohort's units by a given split that names all of them in every fold.

    Raises
    ------
    SheetError
        A fold without train, val or test.
    ConfigError
        The split's number of folds is not `folds.n`.
    """
    extra = given.filter(~pl.col("unit").is_in(units["unit"].implode()))["unit"].n_unique()
    if extra:
        log.info("%s: %d units that are not in the cohort are left out", path, extra)
    folds = given["fold"].n_unique()
    _check_number(path, folds, settings)
    rows: list[tuple[str, int, str]] = []
    for fold in range(folds):
        parts = dict(given.filter(pl.col("fold") == fold).select("unit", "part").rows())
        rows += _with_cal(str(path), units, parts, fold, settings, seed)
    return _table(rows)


def from_column(
    path: str | Path, units: pl.DataFrame, settings: Settings, seed: int
) -> pl.DataFrame:
    """The split that a sheet's own column gives: parts of one fold, or each unit's test fold.

    Parameters
    ----------
    units
        unit, site, split (list of the distinct values of the unit's slides).
    """
    mixed = units.filter((pl.col("split").list.len() != 1) | pl.col("split").list.first().is_null())
    if mixed.height:
        cause = f"{listing(mixed['unit'].sort().to_list())} has several or missing split values"
        raise SheetError(path, cause, "give all slides of a unit the same split, and all units one")
    given = dict(units.select("unit", pl.col("split").list.first()).sort("unit").rows())
    if all(value in PARTS for value in given.values()):
        _check_number(path, 1, settings)
        return _table(_with_cal(str(path), units, given, 0, settings, seed))
    if any(value in PARTS for value in given.values()):
        raise SheetError(path, "column split mixes parts and fold numbers", "use one of the two")
    folds = sorted({int(value) for value in given.values()})
    if folds != list(range(len(folds))):
        raise SheetError(path, f"column split has folds {folds[:6]}", "number them 0, 1, ...")
    _check_number(path, len(folds), settings)
    rows = []
    for fold in folds:
        rest = units.filter(pl.col("unit").is_in([u for u, v in given.items() if int(v) != fold]))
        if rest.height < 2:
            raise SheetError(path, f"fold {fold} leaves nothing to train on", "test fewer units")
        parts = _divide(rest, settings, seed, fold, [])
        rows += [(unit, fold, parts.get(unit, "test")) for unit in given]
    return _table(rows)


def _check_number(path: str | Path, folds: int, settings: Settings) -> None:
    if folds != settings["n"]:
        cause = f"{path} has {folds} folds but folds.n is {settings['n']}"
        raise ConfigError("folds.n", cause, f"set folds: {{n: {folds}}} for this cohort")


def _with_cal(
    path: str, units: pl.DataFrame, given: dict[str, str], fold: int, settings: Settings, seed: int
) -> list[tuple[str, int, str]]:
    parts = {unit: given[unit] for unit in units["unit"]}
    train = units.filter(pl.col("unit").is_in([u for u, part in parts.items() if part == "train"]))
    for part in ("train", "val", "test"):
        if part not in parts.values():
            cause = f"fold {fold} has no {part} unit of this cohort"
            raise SheetError(path, cause, "give train, val and test at least one unit each")
    if "cal" not in parts.values() and settings["cal_share"] and train.height >= SMALL:
        count = max(1, round(settings["cal_share"] * train.height))
        for unit in _spread(_by_site(train, seed, "cal", fold), min(count, train.height - 1)):
            parts[unit] = "cal"
    return [(unit, fold, part) for unit, part in parts.items()]


def _table(rows: list[tuple[str, int, str]]) -> pl.DataFrame:
    schema = {"unit": pl.String, "fold": pl.Int64, "part": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("fold", "unit")
