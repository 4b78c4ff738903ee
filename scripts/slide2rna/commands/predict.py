"""Predict expression for new slides, with intervals and warnings for unusual slides.

It needs only a model's folder (results/<cohort>/models/<run> or a copy), no expression and no
Snakemake. Examples:

  slide2rna predict slide.svs --model results/demo --out predictions
  slide2rna predict *.svs --model luad-model --out predictions --h5ad
  slide2rna predict scan.tif --mpp 0.25 --model luad-model --out predictions
  slide2rna predict features/*.h5 --model luad-model --out predictions

The last example reads tile features that TRIDENT, CLAM or STAMP wrote with the model's encoder.

Each slide gets a folder in --out: index.html to read, genes.parquet, pathways.parquet,
prediction.json and its features; slides.parquet lists all slides. Unreadable slides are named, the
others are predicted, and the exit status is 1. Rerun the same command to continue an interrupted
run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, encoder_names
from slide2rna.core.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("slides", nargs="+", type=Path, help="slides, images, or .h5 features")
    parser.add_argument(
        "--model", type=Path, required=True, help="results/<cohort>, its models/<run>, or a copy"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the predictions")
    parser.add_argument(
        "--mpp", type=float, help="micrometres per pixel, if the file has none or a wrong value"
    )
    parser.add_argument(
        "--draws",
        type=int,
        help="per fold model; default: the number that the intervals were calibrated with",
    )
    parser.add_argument("--seed", type=int, help="of the draws; default: the model's")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="local file with the encoder's weights; with several encoders, one option for each",
    )
    parser.add_argument("--h5ad", action="store_true", help="also write prediction.h5ad (AnnData)")
    parser.add_argument("--no-page", action="store_true", help="no index.html")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--threads",
        type=int,
        default=2,
        help="default: %(default)s; may change the last digit of results",
    )
    args = parser.parse_args(argv)
    for name, least in (("draws", 2), ("threads", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name} {value}", "too few", f"give at least {least}")
    cli.set_threads(args.threads)

    import faiss
    import torch

    from slide2rna.core import devices
    from slide2rna.package import predictor
    from slide2rna.predict import predict_slides
    from slide2rna.slides.reader import MPP_RANGE

    low, high = MPP_RANGE
    if args.mpp is not None and not low <= args.mpp <= high:
        cause = f"not between {low:g} and {high:g}"
        raise ConfigError(f"--mpp {args.mpp:g}", cause, "give micrometres per pixel, such as 0.25")
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    model = predictor.load(args.model, args.device)
    devices.keep_freed_memory()
    options = predict_slides.PredictOptions(
        mpp=args.mpp,
        draws=args.draws,
        seed=args.seed,
        threads=args.threads,
        weights=encoder_names.weights_option(args.weights),
        page=not args.no_page,
        h5ad=args.h5ad,
    )
    predicted = predict_slides.predict_slides(model, args.slides, args.out, options)
    page = "prediction.json" if args.no_page else "index.html"
    for row in predicted.iter_rows(named=True):
        place = args.out / row["slide"] / page if row["status"] == "ok" else "failed"
        marks = "  UNLIKE THE TRAINING SLIDES" if row["shifted"] else ""
        marks = "  IN THE TRAINING OF THE MODEL" if row["trained_folds"] else marks
        print(f"{row['slide']}: {place}{marks}")
    if (failed := predicted.filter(status="failed")).height:
        for name, reason in failed.select("slide", "reason").iter_rows():
            print(f"error: {name}: {reason}", file=sys.stderr)
        sys.exit(1)
