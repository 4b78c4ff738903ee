"""Cluster the tiles of every slide into a bag of k means with sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config, log


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--features", type=Path, required=True, help="features/ENCODER")
    parser.add_argument("--manifests", type=Path, nargs="+", required=True, help="its shards")
    parser.add_argument("--out", type=Path, required=True, help="bags/ENCODER.safetensors")
    parser.add_argument("--settings", default="{}", help="section bags as JSON")
    parser.add_argument("--feature-settings", default="{}", help="section features as JSON")
    parser.add_argument("--max-failed", type=int, default=0, help="slides that may have failed")
    cli.add_machine(parser, threads=2)
    args = parser.parse_args(argv)
    settings = config.parse_settings("bags", args.settings)
    feature_settings = config.parse_settings("features", args.feature_settings)
    cli.set_threads(args.threads)

    from slide2rna.features import clusters, provided

    provided.check_level(feature_settings)
    bags = clusters.cluster_slides(
        args.features,
        args.manifests,
        args.out,
        settings,
        feature_settings,
        args.max_failed,
        args.seed,
        args.threads,
    )
    enough = int((bags.n_tiles > 2 * bags.k).sum())
    log.log.info(
        "%d slides in bags of k = %d; %d have more than 2k tiles",
        len(bags.slide_ids),
        bags.k,
        enough,
    )


if __name__ == "__main__":
    cli.run(main)
