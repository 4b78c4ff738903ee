"""Freeze a cohort: slides.parquet, expression.parquet, splits.tsv and cohort.json.

    slide2rna cohort --name mine --out results/mine --seed 1 \\
        --source '{"source": "sheet", "sheet": "sheet.tsv", "expression": "rna.parquet"}'
    slide2rna cohort --name LUAD --out results/LUAD \\
        --source '{"source": "gdc", "project": "TCGA-LUAD", "genes": "published"}'
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from slide2rna import cli, cohort, config
from slide2rna.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--name", required=True, help="the cohort's name")
    parser.add_argument("--source", required=True, help="the cohort's block of config.yaml, JSON")
    parser.add_argument("--folds", default="{}", help="section folds of config.yaml, JSON")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True, help="folder: results/<cohort>")
    args = parser.parse_args(argv)
    try:
        block = json.loads(args.source)
    except json.JSONDecodeError as error:
        raise ConfigError("--source", str(error), "give a JSON object") from error
    where = "--source"
    source = config.validate({"cohorts": {args.name: block}}, where)["cohorts"][args.name]
    folds = config.parse_settings("folds", args.folds)
    cohort.build(args.name, source, folds, args.seed, args.out)
