"""Make the gene sets of a cohort: GO biological processes, a GMT file, or an index JSON.

Writes OUT (pathway, name, gene) and a JSON file next to it, with the counts and the density of the
overlap graph. Example:

  python scripts/pathways.py --expression results/demo/expression.parquet \\
      --out results/demo/pathways/go-bp.parquet --settings '{"source": "go-bp"}'
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config, files, log
from slide2rna.core.errors import StageError
from slide2rna.storage import parquet


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--expression", type=Path, required=True, help="samples x genes, Parquet")
    parser.add_argument("--names", type=Path, help="gene_names.parquet of the cohort")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--settings", default="{}", help="section pathways, as JSON")
    parser.add_argument(
        "--go",
        type=Path,
        default=Path(__file__).resolve().parents[1] / "resources" / "go",
        help="folder of the pinned GO snapshot",
    )
    args = parser.parse_args(argv)

    from slide2rna.pathways import build

    settings = config.parse_settings("pathways", args.settings)
    if not args.expression.is_file():
        raise StageError(args.expression, "no such file", "run scripts/cohort.py first")
    genes = [name for name in parquet.read_names(args.expression) if name != "sample_id"]
    symbols = None if args.names is None else parquet.read(args.names)["symbol"].to_list()
    sets, descriptions, report = build.build_pathways(settings, genes, args.go, symbols)
    log.log.info(
        "%d sets, %d memberships, %d background genes, edge density %.1f %%",
        *(report["P"], report["memberships"], report["background"], 100 * report["edge_density"]),
    )
    if "warning" in report:
        log.log.warning("warning: %s", report["warning"])
    parquet.write(build.pathways_table(sets, descriptions, genes), args.out)
    files.write_json(report, args.out.with_suffix(".json"))


if __name__ == "__main__":
    cli.run(main)
