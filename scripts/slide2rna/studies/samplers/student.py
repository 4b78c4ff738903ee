"""One-step student of a trained flow: one evaluation reproduces the teacher's solution."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
import torch
from torch import Tensor

from slide2rna.core import config, files, seeds
from slide2rna.core.devices import autocast, autocast_dtype
from slide2rna.core.errors import StageError
from slide2rna.core.log import log, progress
from slide2rna.core.settings import StudentSettings
from slide2rna.data import fold_rows
from slide2rna.data.fold_rows import FoldRows
from slide2rna.features import bag_file
from slide2rna.features.bag_file import Bags
from slide2rna.flow import path, solvers
from slide2rna.flow.one_step import ONE_STEP
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.sampling import draw
from slide2rna.storage import parquet
from slide2rna.training import loop
from slide2rna.training.objective import VAL_ROWS, TensorPart

# Training settings that the student has; the others are its teacher's.
STUDENT_KEYS: tuple[Literal["learning_rate", "epochs", "patience"], ...] = (
    "learning_rate",
    "epochs",
    "patience",
)


@dataclass(frozen=True)
class DistillationInputs:
    """The teacher's folder, files of its cohort, and the fold."""

    teacher: Path
    bags: Path
    slides: Path
    splits: Path
    fold: int


@dataclass(frozen=True)
class TeacherPairs:
    """Noise of each slide, and the teacher's solutions from it.

    Attributes
    ----------
    ends
        (N, M, G) float16, standardised; M pairs of each of N slides.
    """

    slide_ids: list[str]
    ends: Tensor
    width: int
    seed: int
    fold: int

    def white(self, slide: int, pair: int) -> Tensor:
        """Return the white noise (width,) of a pair: drawn again on each call, never stored."""
        name = seeds.seed_for(self.seed, "distil", self.fold, self.slide_ids[slide], pair)
        return torch.randn(self.width, generator=torch.Generator().manual_seed(name))


def teach(
    teacher: RNAFM, rows: FoldRows, bagged: Bags, pairs: int, steps: int, seed: int, fold: int
) -> TeacherPairs:
    """Solve the teacher's flow from `pairs` noises of every slide, in `steps` steps."""
    device = teacher.gene_mean.device
    teacher_pairs = TeacherPairs(
        rows.slide_ids,
        torch.empty(len(rows.slide_ids), pairs, teacher.pathways.n_genes, dtype=torch.float16),
        teacher.noise_width,
        seed,
        fold,
    )
    settings = config.defaults("sample", **(ONE_STEP | {"steps": steps}))
    limit = draw.rows_per_chunk(teacher, settings["memory_mb"], device)
    blocks = torch.arange(len(rows.slide_ids)).split(max(1, limit // pairs))
    for block in progress(blocks, f"fold {fold}: teacher"):
        means, sizes = (
            torch.from_numpy(array[rows.bag[block.numpy()]]).to(device)
            for array in (bagged.means, bagged.sizes)
        )
        white = torch.stack(
            [torch.stack([teacher_pairs.white(s, m) for m in range(pairs)]) for s in block.tolist()]
        )
        with torch.inference_mode():
            image = teacher.encode_image(means, sizes)
            ends = draw.draw(teacher, image, white.to(device), settings, limit)
        teacher_pairs.ends[block] = ends.cpu().to(torch.float16)
    return teacher_pairs


class Distillation:
    """Mean square error of the student's one step against the teacher's many, from the same noise.

    One exponential step from 0 to 1 is x1 = sd * x0 + F(x0, 0, y). If the distribution for a slide
    is N(F, S C S), S = diag(sd), with x0 ~ N(0, C), the draws of that step already follow it: the
    student starts there.

    A batch's z holds the slides' numbers, which index their pairs: the student never sees a
    measured profile.

    Luhman and Luhman (2021), arXiv:2101.02388; for why not MeanFlow see
    docs/explanation/samplers.md.
    """

    def __init__(
        self,
        train_pairs: TeacherPairs,
        val_pairs: TeacherPairs,
        part: TensorPart,
        dtype: torch.dtype | None,
    ) -> None:
        self.train_pairs, self.val_pairs = train_pairs, val_pairs
        self.part, self.dtype = part, dtype

    def loss(self, model: RNAFM, batch: TensorPart, generator: torch.Generator) -> Tensor:
        """Return the loss on one pair of each slide, drawn in every epoch."""
        model.eval()  # the teacher's solutions have no dropout, which would only add noise
        slides = batch.z[:, 0].long()
        count, device = self.train_pairs.ends.shape[1], slides.device
        chosen = torch.randint(count, (len(slides), 1), generator=generator, device=device)
        return self._loss(model, batch, self.train_pairs, slides.cpu(), chosen.cpu())

    @torch.no_grad()
    def val(self, model: RNAFM) -> float:
        """Return the mean loss over all pairs of the val slides."""
        n, count = self.val_pairs.ends.shape[:2]
        total = 0.0
        with autocast(self.part.z.device, self.dtype):
            for slides in torch.arange(n).split(max(1, VAL_ROWS // count)):
                batch = TensorPart(
                    self.part.means[slides], self.part.sizes[slides], self.part.z[slides]
                )
                chosen = torch.arange(count).expand(len(slides), count)
                loss = self._loss(model, batch, self.val_pairs, slides, chosen)
                total += loss.item() * len(slides)
        return total / n

    def finish(self, model: RNAFM) -> tuple[float, dict[str, float]]:
        return self.val(model), {}

    def _loss(
        self, model: RNAFM, batch: TensorPart, pairs: TeacherPairs, slides: Tensor, chosen: Tensor
    ) -> Tensor:
        device = batch.means.device
        rows = [
            (s, m) for s, row in zip(slides.tolist(), chosen.tolist(), strict=True) for m in row
        ]
        white = torch.stack([pairs.white(s, m) for s, m in rows]).to(device)
        ends = pairs.ends[slides[:, None], chosen].flatten(0, 1).to(device, torch.float32)
        image = model.encode_image(batch.means, batch.sizes)
        return path.loss(one_step(model, white, image), ends, model.active)


def one_step(model: RNAFM, white: Tensor, image: Tensor) -> Tensor:
    """Return draws (S * D, G) in standardised units from one evaluation; see `sampling.draw`.

    Parameters
    ----------
    white
        (S * D, noise_width).
    image
        (S, h) from `encode_image`.
    """
    active = model.active

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return model(x, t, image) * active

    start = model.color(white) * active
    return solvers.solve(velocity, start, 1, "exponential", model.path, model.residual_sd())


def distil(
    inputs: DistillationInputs,
    out: Path,
    settings: StudentSettings,
    seed: int,
    device: torch.device,
    after_epoch: Callable[[int], None] | None = None,
) -> RNAFM:
    """Train the student of one fold and write its folder, in the format of any model.

    Parameters
    ----------
    settings
        Key `student` of section samplers.
    after_epoch
        Called with the number of each finished epoch, for tests.

    Raises
    ------
    StageError
        The teacher gives no draws, or the bags aren't those of its run.
    """
    teacher, meta = checkpoint.load_model(inputs.teacher, device)
    if not isinstance(teacher, RNAFM) or meta.get("one_step"):
        kind = "itself a one-step student" if meta.get("one_step") else "not generative"
        raise StageError(inputs.teacher, f"the model is {kind}", "distil the run's flow")
    bagged = bag_file.load(inputs.bags)
    if bagged.means.shape[1:] != (meta["clusters"], meta["features"]):
        raise StageError(
            inputs.bags,
            f"clusters x features are {bagged.means.shape[1:]}, the model has "
            f"({meta['clusters']}, {meta['features']})",
            "use the bags of its training",
        )
    rows = fold_rows.read_fold_rows(bagged.slide_ids, inputs.slides, inputs.splits, inputs.fold)
    parts, pairs = {}, {}
    for name in ("train", "val"):
        part_rows = rows.of(name)
        if not part_rows.slide_ids:
            raise StageError(
                f"fold {inputs.fold}", f"no slide in part {name}", "use more slides or fewer folds"
            )
        pairs[name] = teach(
            teacher, part_rows, bagged, settings["pairs"], settings["steps"], seed, inputs.fold
        )
        numbers = torch.arange(len(part_rows.slide_ids), dtype=torch.float32)[:, None]
        means, sizes = (torch.from_numpy(a[part_rows.bag]) for a in (bagged.means, bagged.sizes))
        parts[name] = TensorPart(means, sizes, numbers).to(device)
    train_settings = config.defaults("train") | meta["settings"]["train"]
    train_settings |= {key: settings[key] for key in STUDENT_KEYS}
    dtype = autocast_dtype(train_settings["precision"], device)
    objective = Distillation(pairs["train"], pairs["val"], parts["val"], dtype)
    undistilled = objective.val(teacher)
    torch.manual_seed(seeds.seed_for(seed, "distil", inputs.fold))
    student = copy.deepcopy(teacher)
    student.uses_network = True
    trainer = loop.Trainer(
        student, parts["train"], objective, train_settings, seed, inputs.fold, device
    )
    origin = {
        "weights": files.sha256sum(inputs.teacher / "model.safetensors"),
        "steps": settings["steps"],
        "pairs": settings["pairs"],
    }
    result = loop.train_network(
        trainer, out / "checkpoint" / "student.safetensors", origin, after_epoch
    )
    log.info("val distance to the teacher: %.5f, undistilled %.5f", result.loss, undistilled)
    log_table = pl.DataFrame(result.progress.log, infer_schema_length=None)
    parquet.write(log_table, out / "log.parquet")
    facts = {
        "one_step": True,
        "teacher": origin,
        "best_epoch": result.progress.best_epoch,
        "epochs": result.progress.epoch,
        "val_loss": result.loss,
        "val_loss_undistilled": undistilled,
        "uses_network": True,
        "settings": meta["settings"] | {"train": train_settings},
    }
    model = result.model
    assert isinstance(model, RNAFM)
    checkpoint.save_model(out, model, meta | facts)
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    return model
