"""Preflight: Python, packages, OpenSlide, device, weights, disk, network, configuration.

    slide2rna doctor                            config.yaml of this folder, if there is one
    slide2rna doctor --config own.yaml --device cuda

Prints a line per check (ok, warn or fail) with its remedy; exit status 1 if one failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli
from slide2rna.operations import doctor


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    here = "config.yaml" if Path("config.yaml").is_file() else None
    parser.add_argument("--config", default=here, help="configuration to check too")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: the config's")
    args = parser.parse_args(argv)
    if status := doctor.run_checks(args.config, args.device):
        sys.exit(status)
