"""Cluster the tiles of every slide into a bag of k means with sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config, log
from slide2rna.plan import runs


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--features", type=Path, required=True, help="features/ENCODER")
    parser.add_argument("--manifests", type=Path, nargs="+", required=True, help="its shards")
    parser.add_argument("--out", type=Path, required=True, help="bags/ENCODER.safetensors")
    parser.add_argument("--settings", default="{}", help="section bags as JSON")
    parser.add_argument("--feature-settings", default="{}", help="section features as JSON")
    parser.add_argument("--max-failed", type=int, default=0, help="maximum number of failed slides")
    parser.add_argument(
        "--resampled",
        action="store_true",
        help="write the resampled training bags (bags.resamples) instead",
    )
    cli.add_machine(parser, threads=2)
    args = parser.parse_args(argv)
    settings = config.parse_settings("bags", args.settings)
    feature_settings = config.parse_settings("features", args.feature_settings)
    cli.set_threads(args.threads)

    from slide2rna.features import clusters, provided, resample

    provided.check_level(feature_settings)
    if args.resampled:
        runs.check_resamples({"bags": settings, "features": feature_settings})
        resampled = resample.resample_slides(
            args.features,
            args.manifests,
            args.out,
            settings,
            args.max_failed,
            args.seed,
            args.threads,
        )
        log.log.info("%d slides with %d further bags each", resampled, settings["resamples"])
        return
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
