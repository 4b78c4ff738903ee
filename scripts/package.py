"""Package a finished run for new slides: tables and a model card in the model's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slide2rna.core import cli, config
from slide2rna.core.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--cohort-dir", type=Path, required=True, help="results/<cohort>")
    parser.add_argument("--run", required=True, help="<encoder>-<model>-<pathways>")
    parser.add_argument("--features", required=True, help="name of the encoder")
    parser.add_argument("--pathways", required=True, help="name of the pathway set")
    parser.add_argument("--folds", type=int, required=True, help="number of folds")
    parser.add_argument(
        "--settings", default="{}", help="sections of the configuration, by name, as JSON"
    )
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)

    from slide2rna.package import package, package_tables

    try:
        sections = json.loads(args.settings)
    except json.JSONDecodeError as error:
        raise ConfigError("--settings", str(error), "give a JSON object") from error
    settings: Any = {
        name: config.defaults(name, **sections.get(name, {})) for name in package.SECTIONS
    }
    source = package_tables.FinishedRun(
        args.cohort_dir, args.run, args.features, args.pathways, list(range(args.folds))
    )
    package.package_run(source, settings, args.seed)


if __name__ == "__main__":
    cli.run(main)
