"""Freeze a cohort: slides.parquet, expression.parquet, splits.tsv and cohort.json.

Snakemake runs this stage itself. By hand it checks a sheet and an expression table in seconds,
before the first job. Each error is one line with file, row, cause and remedy.

    slide2rna cohort mine                       from config.yaml into results/mine
    slide2rna cohort mine --config own.yaml --out /tmp/try

The rules pass a cohort's block and section `folds` as JSON:

    slide2rna cohort --name mine --out results/mine --seed 1 \\
        --source '{"source": "sheet", "sheet": "slides.tsv", "expression": "rna.parquet"}'
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from slide2rna.core import cli, config
from slide2rna.core.config import Settings
from slide2rna.core.errors import ConfigError
from slide2rna.core.settings import FoldsSettings


class FreezeArguments(NamedTuple):
    """Arguments of `freeze_cohort`, in its order."""

    name: str
    source: Settings
    folds: FoldsSettings
    seed: int
    out: str
    needs_slides: bool
    with_folds: bool


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("cohort", nargs="?", help="name of a cohort in the configuration")
    parser.add_argument("--config", help="the configuration (default: config.yaml)")
    parser.add_argument("--out", help="folder (default: results/<cohort>)")
    parser.add_argument("--seed", type=int, help="default: the configuration's, or 1")
    parser.add_argument("--name", help="with --source: the cohort's name")
    parser.add_argument("--source", help="the cohort's block of config.yaml as JSON")
    parser.add_argument("--folds", help="with --source: section folds as JSON")
    parser.add_argument(
        "--needs-slides", action="store_true", help="with --source: refuse rows without a slide"
    )
    parser.add_argument(
        "--no-folds", action="store_true", help="with --source: leave splits.tsv to split.py"
    )
    args = parser.parse_args(argv)
    arguments = _from_source(args) if args.source else _from_config(args)

    from slide2rna.cohort import freeze

    freeze.freeze_cohort(*arguments)


def _from_source(args: argparse.Namespace) -> FreezeArguments:
    """Read the arguments from --source, as the workflow's rule passes them."""
    if args.name is None or args.out is None or args.config or args.cohort:
        cause = "--source needs --name and --out, and excludes the name of a cohort"
        raise ConfigError("slide2rna cohort", cause, "see --help")
    try:
        block = json.loads(args.source)
    except json.JSONDecodeError as error:
        raise ConfigError("--source", str(error), "give a JSON object") from error
    source = config.validate({"cohorts": {args.name: block}}, "--source")["cohorts"][args.name]
    folds = config.parse_settings("folds", args.folds or "{}")
    seed = 1 if args.seed is None else args.seed
    return FreezeArguments(
        args.name, source, folds, seed, args.out, args.needs_slides, not args.no_folds
    )


def _from_config(args: argparse.Namespace) -> FreezeArguments:
    """Read the arguments from the configuration, as the workflow would."""
    if args.name or args.folds or args.needs_slides or args.no_folds:
        cause = "--name, --folds, --needs-slides and --no-folds need --source"
        raise ConfigError("slide2rna cohort", cause, "name a cohort of the configuration")
    path = args.config or "config.yaml"
    settings = config.load(path)
    cohorts = ", ".join(settings["cohorts"])
    if args.cohort is None:
        raise ConfigError("slide2rna cohort", "no cohort named", f"{path} has {cohorts}")
    if args.cohort not in settings["cohorts"]:
        raise ConfigError(path, f"unknown cohort '{args.cohort}'", f"it has {cohorts}")
    source = settings["cohorts"][args.cohort]
    out = args.out or f"{settings['results']}/{args.cohort}"
    is_generated = source["source"] in ("demo", "law", "law2")
    if is_generated and not (Path(out) / "source" / "sheet.tsv").is_file():
        cause = f"cohort {args.cohort} must be generated first, and {out} has no source"
        raise ConfigError(path, cause, f"run snakemake --cores 2 {args.cohort}")
    merged = config.for_cohort(settings, args.cohort)
    seed = settings["seed"] if args.seed is None else args.seed
    needs_slides = merged["features"]["encoder"] != "files"
    return FreezeArguments(args.cohort, source, merged["folds"], seed, out, needs_slides, True)
