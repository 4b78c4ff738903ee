"""Draw expression profiles for the cal and test slides of a fold; point predictions for val too.

Writes the draws (zarr) and their summary (Parquet). The same command continues an interrupted run
with the next slide. Example:

  python scripts/sample.py --model results/demo/models/lite0-flow-go-bp/fold-0 --fold 0 \\
      --bags results/demo/bags/lite0.safetensors --slides results/demo/slides.parquet \\
      --splits results/demo/splits.tsv --out results/demo/draws/lite0-flow-go-bp/fold-0.zarr \\
      --summary results/demo/draws/lite0-flow-go-bp/fold-0.parquet
"""

from __future__ import annotations

from collections.abc import Sequence

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_paths(
        parser,
        model="folder of the fold's model",
        bags="bags of the cohort",
        slides="slides.parquet",
        splits="unit, fold, part",
        out="zarr group to write",
        summary="Parquet table to write",
    )
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--label", default="flow", help="the run's name among the models")
    parser.add_argument("--settings", default="{}", help="section sample, as JSON")
    cli.add_machine(parser, threads=1, device=True)
    args = parser.parse_args(argv)
    settings = config.parse_settings("sample", args.settings)
    cli.set_threads(args.threads)

    import torch
    from slide2rna.core import devices
    from slide2rna.data import fold_rows
    from slide2rna.features import bag_file
    from slide2rna.models import checkpoint
    from slide2rna.sampling import fold_draws

    torch.set_num_threads(args.threads)
    device = devices.choose_device(args.device)
    model, meta = checkpoint.load_model(args.model, device)
    # Only now: building a network frees large blocks that nothing later would reuse.
    devices.keep_freed_memory()
    ids, means, sizes = bag_file.open_bags(args.bags)
    rows = fold_rows.read_fold_rows(ids, args.slides, args.splits, args.fold)
    fold_draws.sample_fold(
        model,
        meta,
        (means, sizes),
        rows.of("val", "cal", "test"),
        settings,
        args.seed,
        args.fold,
        args.label,
        args.out,
        args.summary,
        device,
    )


if __name__ == "__main__":
    cli.run(main)
