"""Train one fold's one-step student from its trained flow and the same slides.

An interrupted run goes on from OUT/checkpoint when the same command is given again. Example:

  python scripts/distil.py --model results/demo/models/lite0-flow-go-bp/fold-0 --fold 0 \\
      --bags results/demo/bags/lite0.safetensors --slides results/demo/slides.parquet \\
      --splits results/demo/splits.tsv --out results/demo/samplers/lite0-flow-go-bp/student/fold-0
"""

from __future__ import annotations

from collections.abc import Sequence

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_paths(
        parser,
        model="folder of the fold's flow, the teacher",
        bags="bags of the cohort",
        slides="slides.parquet",
        splits="unit, fold, part",
        out="folder of the student",
    )
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--settings", default="{}", help="student of section samplers, as JSON")
    cli.add_machine(parser, threads=1, device=True)
    args = parser.parse_args(argv)
    settings = config.parse_settings("samplers", f'{{"student": {args.settings}}}')["student"]
    cli.set_threads(args.threads)

    import torch
    from slide2rna.core import devices
    from slide2rna.studies.samplers import student

    torch.set_num_threads(args.threads)
    devices.keep_freed_memory()
    student.distil(
        student.DistillationInputs(args.model, args.bags, args.slides, args.splits, args.fold),
        args.out,
        settings,
        args.seed,
        devices.choose_device(args.device),
    )


if __name__ == "__main__":
    cli.run(main)
