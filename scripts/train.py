"""Train one fold's network on the train slides, stopped by the val slides.

The same command continues an interrupted run from OUT/checkpoint. Example:

  python scripts/train.py --bags results/demo/bags/lite0.safetensors \\
      --expression results/demo/expression.parquet --splits results/demo/splits.tsv \\
      --slides results/demo/slides.parquet --pathways results/demo/pathways/go-bp.parquet \\
      --guard results/demo/guard.json --fold 0 --out results/demo/models/lite0-flow-go-bp/fold-0
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config
from slide2rna.core.errors import StageError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_paths(
        parser,
        bags="bags of the cohort",
        expression="samples x genes, log2(x+1)",
        splits="unit, fold, part",
        slides="slides.parquet",
        pathways="gene sets",
        guard="the leak guard's report",
        out="folder of the model",
    )
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument(
        "--partner",
        type=Path,
        action="append",
        default=[],
        help="results folder of a partner cohort for the fit of the flow's mean; repeatable",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="folder of a model whose fitted mean this fit starts from",
    )
    parser.add_argument("--resamples", type=Path, help="resampled bags of the train slides")
    parser.add_argument("--name", default="flow", help="flow, or a network of section baselines")
    parser.add_argument("--model", default="{}", help="section model, or the network's, as JSON")
    parser.add_argument("--settings", default="{}", help="section train, as JSON")
    parser.add_argument("--search", default="[]", help="further configurations, as JSON")
    cli.add_machine(parser, threads=1, device=True)
    args = parser.parse_args(argv)
    settings = config.parse_training(args.name, args.model, args.settings) | {
        "search": json.loads(args.search)
    }
    if not args.guard.is_file():
        raise StageError(args.guard, "no such file", "run scripts/split.py guard first")
    cli.set_threads(args.threads)

    import torch
    from slide2rna.core import devices
    from slide2rna.training import fit, task

    torch.set_num_threads(args.threads)
    devices.keep_freed_memory()
    device = devices.choose_device(args.device)
    fit.fit_fold(
        task.TrainingInputs(
            args.bags,
            args.expression,
            args.splits,
            args.slides,
            args.pathways,
            args.fold,
            tuple(args.partner),
            args.start,
            args.resamples,
        ),
        args.out,
        settings,
        args.seed,
        device,
    )


if __name__ == "__main__":
    cli.run(main)
