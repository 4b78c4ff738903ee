"""Compare samplers of a run's flow: train the `student`, `draw` by each, `score` them together.

Steps `student` and `draw` go on where they were when the same command is given again.

  python scripts/samplers.py student --model results/demo/models/lite0-flow-go-bp/fold-0 \\
      --fold 0 --bags results/demo/bags/lite0.safetensors --slides results/demo/slides.parquet \\
      --splits results/demo/splits.tsv --out results/demo/samplers/lite0-flow-go-bp/student/fold-0
  python scripts/samplers.py draw --model results/demo/models/lite0-flow-go-bp/fold-0 \\
      --fold 0 --bags results/demo/bags/lite0.safetensors --slides results/demo/slides.parquet \\
      --splits results/demo/splits.tsv --out results/demo/samplers/lite0-flow-go-bp/fold-0 \\
      --samplers '[["euler-5", {"solver": "euler", "steps": 5, "draws": 39}, false]]'
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from slide2rna.core import cli, config


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    about = "train one fold's one-step student from its trained flow and the same slides"
    student = steps.add_parser("student", help=about, description=about)
    _add_fold(student, "folder of the fold's flow, the teacher", "folder of the student")
    student.add_argument("--settings", default="{}", help="student of section samplers, as JSON")
    about = "draw the val and test slides of a fold by several samplers: OUT/<sampler>.zarr each"
    draw = steps.add_parser("draw", help=about, description=about)
    _add_fold(draw, "folder of the fold's flow", "folder to write")
    draw.add_argument("--student", type=Path, help="folder of the fold's one-step student")
    draw.add_argument("--label", default="flow", help="the run's name among the models")
    draw.add_argument(
        "--samplers", required=True, help="[[name, section sample, of the student], ...] as JSON"
    )
    about = "score the samplers (--others) beside the reference (--draws): a table and a figure"
    score = steps.add_parser("score", help=about, description=about)
    cli.add_scoring(score)
    score.add_argument(
        "--samplers",
        required=True,
        help="[[label, name, solver, steps, guidance], ...] as JSON, the reference first",
    )
    args = parser.parse_args(argv)
    {"student": _student, "draw": _draw, "score": _score}[args.step](args)


def _add_fold(step: argparse.ArgumentParser, model: str, out: str) -> None:
    """Add the options of a step that works on one fold's slides."""
    names = {name: cli.COHORT[name] for name in ("bags", "slides", "splits")}
    cli.add_paths(step, model=model, **names, out=out)
    step.add_argument("--fold", type=int, required=True)
    cli.add_machine(step, threads=1, device=True)


def _student(args: argparse.Namespace) -> None:
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


def _draw(args: argparse.Namespace) -> None:
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


def _score(args: argparse.Namespace) -> None:
    cli.set_threads(args.threads)

    from slide2rna.evaluation.scoring.evaluated import EvaluationInputs
    from slide2rna.report.figures import samplers as samplers_figure
    from slide2rna.studies.samplers import sampler_table

    settings = config.parse_settings("evaluate", args.settings)
    every = [sampler_table.ScoredSampler(*facts) for facts in json.loads(args.samplers)]
    table = sampler_table.write_samplers(
        cli.from_options(EvaluationInputs, args), every, args.out, settings, args.seed, args.threads
    )
    samplers_figure.write(table, args.out)


if __name__ == "__main__":
    cli.run(main)
