"""Comparison of the tables of two results folders: texts and counts exactly, floats to 1e-6.

    python benchmarks/compare_results.py BEFORE/results/demo AFTER/results/demo

Seconds are left out: they measure the machine. Paths count from the results folder on. Exit status
1 names the tables that differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

TOLERANCE = 1e-6
SECONDS = ("seconds",)


def comparable(table: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the table without measured times, and with paths relative to `folder`."""
    if "metric" in table.columns:
        table = table.filter(~pl.col("metric").is_in(SECONDS))
    if "path" in table.columns:
        table = table.with_columns(pl.col("path").str.strip_prefix(f"{folder.resolve()}/"))
    return table.drop(SECONDS, strict=False)


def difference(name: Path, before: Path, after: Path) -> str:
    """Return the first difference of a table in two folders, in one line; empty without one."""
    one, two = (comparable(pl.read_parquet(folder / name), folder) for folder in (before, after))
    try:
        assert_frame_equal(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    except AssertionError as error:
        return " ".join(str(error).split())
    return ""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a cohort's results folder")
    parser.add_argument("after", type=Path, help="the folder to compare with it")
    args = parser.parse_args(argv)
    names = {
        folder: {path.relative_to(folder) for path in folder.rglob("*.parquet")}
        for folder in (args.before, args.after)
    }
    shared = sorted(names[args.before] & names[args.after])
    wrong = [f"only in one folder: {name}" for name in names[args.before] ^ names[args.after]]
    same_bytes = 0
    for name in shared:
        if (args.before / name).read_bytes() == (args.after / name).read_bytes():
            same_bytes += 1
        elif text := difference(name, args.before, args.after):
            wrong.append(f"{name}: {text}")
    print(f"{len(shared)} tables: {same_bytes} with the same bytes, {len(wrong)} differ")
    for line in sorted(wrong):
        print(line)
    sys.exit(bool(wrong) or not shared)


if __name__ == "__main__":
    main()
