"""Draw the val and test slides of a fold by several samplers, one after the other.

Leaves OUT/<sampler>.zarr each; an interrupted run goes on with the next sampler. Example:

  python scripts/sample_variants.py --model results/demo/models/lite0-flow-go-bp/fold-0 --fold 0 \\
      --bags results/demo/bags/lite0.safetensors --slides results/demo/slides.parquet \\
      --splits results/demo/splits.tsv --out results/demo/samplers/lite0-flow-go-bp/fold-0 \\
      --samplers '[["euler-5", {"solver": "euler", "steps": 5, "draws": 39}, false]]'
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_paths(
        parser,
        model="folder of the fold's flow",
        bags="bags of the cohort",
        slides="slides.parquet",
        splits="unit, fold, part",
        out="folder to write",
    )
    parser.add_argument("--student", type=Path, help="folder of the fold's one-step student")
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--label", default="flow", help="the run's name among the models")
    parser.add_argument(
        "--samplers", required=True, help="[[name, section sample, of the student], ...] as JSON"
    )
    cli.add_machine(parser, threads=1, device=True)
    args = parser.parse_args(argv)
    listed = json.loads(args.samplers)
    settings = [config.parse_settings("sample", json.dumps(changes)) for _, changes, _ in listed]
    cli.set_threads(args.threads)

    import torch
    from slide2rna.core import devices
    from slide2rna.data import fold_rows
    from slide2rna.features import bag_file
    from slide2rna.plan.runs import PlannedSampler
    from slide2rna.studies.samplers import sampler_draws

    torch.set_num_threads(args.threads)
    devices.keep_freed_memory()
    bagged = bag_file.load(args.bags)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, args.slides, args.splits, args.fold)
    sampler_draws.draw_samplers(
        args.model,
        args.student,
        [PlannedSampler(name, s, of) for (name, _, of), s in zip(listed, settings, strict=True)],
        bagged,
        rows.of("val", "test"),
        args.seed,
        args.fold,
        args.label,
        args.out,
        devices.choose_device(args.device),
    )


if __name__ == "__main__":
    cli.run(main)
