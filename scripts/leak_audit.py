"""Fit the same models under the clean and the published fold pairing to measure the leak.

Only the scores of these models are kept: audit.parquet and leak_audit.png/.svg. Example:

  python scripts/leak_audit.py --cohort results/law --bags results/law/bags/files.safetensors \\
      --out results/law/leak_audit --settings '{"models": ["memoriser", "ridge"]}'
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--cohort", type=Path, required=True, help="results/<cohort>")
    parser.add_argument("--bags", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for table and figure")
    parser.add_argument("--settings", default="{}", help="section leak_audit, as JSON")
    parser.add_argument("--evaluate", default="{}", help="section evaluate, as JSON")
    parser.add_argument("--networks", default="{}", help="settings of networks, JSON")
    parser.add_argument("--pathways", type=Path, help="gene sets; only the flow needs them")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    names = config.parse_settings("leak_audit", args.settings)["models"]
    scoring = config.parse_settings("evaluate", args.evaluate)
    cli.set_threads(args.threads)

    from slide2rna.report.figures import leak_audit
    from slide2rna.studies.leak_audit import audit

    tables = ("expression.parquet", "slides.parquet", "splits.tsv", "cohort.json")
    inputs = audit.AuditInputs(args.bags, *(args.cohort / name for name in tables))
    fit = None
    if trained := audit.networks_among(names):
        from slide2rna.studies.leak_audit import networks

        settings = {name: json.loads(args.networks).get(name, {}) for name in trained}
        fit = networks.load(
            settings, inputs.expression, args.pathways, args.device, args.threads
        ).fit
    table, info = audit.audit(inputs, names, scoring, args.seed, fit)
    leak_audit.write(table, info, args.out)


if __name__ == "__main__":
    cli.run(main)
