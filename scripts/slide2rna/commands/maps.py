"""Map genes and gene sets over a slide with a trained model: mean and sd per tile.

The model predicts each window of tiles as if it were a small slide; a tile gets the average over
its windows. OUT/<slide>/ has maps.parquet, a picture per name, maps.geojson for QuPath, and
maps.json with settings and column definitions.

With --head mixture the model's mixture head predicts each tile. A gene's tile values add up to the
bulk prediction in linear scale.

The model was trained on whole slides, not on places within them: maps are hypotheses. Examples:

  slide2rna maps a.svs --model results/demo/models/lite0-flow-go-bp --genes ERBB2,CD3D --out maps
  slide2rna maps a.svs --model MODEL --pathways GO:0006955 "T cell activation" --out maps
  slide2rna maps a.jpg --mpp 0.69 --model MODEL --genes ERBB2 --window 4 --stride 1 --out maps
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, log
from slide2rna.core.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("slide", type=Path, help="whole-slide image, or a TIFF, JPEG or PNG")
    parser.add_argument("--model", type=Path, required=True, help="results/<cohort>/models/<run>")
    parser.add_argument(
        "--out", type=Path, required=True, help="output folder; each slide gets a subfolder"
    )
    parser.add_argument("--genes", nargs="+", default=[], metavar="GENE", help="names, or A,B,C")
    parser.add_argument(
        "--pathways", nargs="+", default=[], metavar="SET", help="gene sets by id or name"
    )
    parser.add_argument(
        "--head",
        choices=["windows", "mixture"],
        default="windows",
        help="windows: predict each window (default); mixture: the model's mixture head, "
        "whose maps add up to the bulk prediction, without draws",
    )
    parser.add_argument(
        "--window", type=int, help="edge in tiles (default: 8; with --head mixture 1)"
    )
    parser.add_argument(
        "--stride", type=int, help="step in tiles (default: 2; with --head mixture 1)"
    )
    parser.add_argument(
        "--min-tiles",
        type=int,
        help="tiles that a window needs (default: a quarter of its positions)",
    )
    parser.add_argument(
        "--draws",
        type=int,
        help="per window and fold model, for sd (default: 20); 0 is much quicker, and sd is then "
        "that between windows and models alone",
    )
    parser.add_argument("--mpp", type=float, help="um/px, if the file has none")
    parser.add_argument(
        "--max-tiles", type=int, help="map a random sample of this many tiles (default: all)"
    )
    parser.add_argument("--seed", type=int, help="of the draws (default: the model's)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    args = parser.parse_args(argv)
    for option, value, low in (
        *(("--draws", args.draws, 0), ("--max-tiles", args.max_tiles, 1)),
        ("--threads", args.threads, 1),
    ):
        if value is not None and value < low:
            raise ConfigError(option, f"{value} is too few", f"give {low} or more")
    cli.set_threads(args.threads)

    import torch

    from slide2rna.maps import captions, map_slide, mixture_predictions
    from slide2rna.maps import targets as map_targets
    from slide2rna.maps.windows import WindowShape
    from slide2rna.package import predictor

    mixture = args.head == "mixture"
    if mixture and args.draws:
        cause = "the mixture head has no draws"
        raise ConfigError("--draws", cause, "leave it out with --head mixture")
    draws = (0 if mixture else 20) if args.draws is None else args.draws
    window, stride = (
        (1 if mixture else default) if value is None else value
        for value, default in ((args.window, 8), (args.stride, 2))
    )
    shape = WindowShape.of(window, stride, args.min_tiles)
    map_slide.check_slide(args.slide)
    torch.set_num_threads(args.threads)
    model = predictor.load(args.model, args.device)
    model.check_slides()
    if mixture:
        mixture_predictions.check_head(model.fold_models[0])
    targets = map_targets.choose_targets(
        model.gene_table,
        model.pathway_table,
        args.genes,
        args.pathways,
        model.about["pathway_score"],
    )
    options = map_slide.MapOptions(
        shape, draws, args.seed, args.mpp, args.max_tiles, args.threads, args.head
    )
    out = args.out / args.slide.stem
    record = map_slide.map_slide(args.slide, model, targets, options, out)
    for warning in record["warnings"]:
        log.log.warning("%s", warning)
    for row in record["maps"]:
        log.log.info("%s: %s", out / row["picture"], captions.describe_reliability(row))
