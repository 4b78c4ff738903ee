"""Training objectives: the flow loss of RNA-FM, the squared error of a regression network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from slide2rna.core.config import Settings
from slide2rna.core.devices import autocast, autocast_dtype
from slide2rna.core.log import log
from slide2rna.core.seeds import seed_for
from slide2rna.core.settings import TrainSettings
from slide2rna.flow import path
from slide2rna.flow.velocity import RNAFM
from slide2rna.models.regressor import REGRESSION_ROWS, Regressor
from slide2rna.training.resampled_bags import ResampledBags

SD_RATE = 10.0
VAL_ROWS = 256
SD_OFFSETS = [i / 20 for i in range(-6, 13)]


@dataclass(frozen=True)
class TensorPart:
    """Slides of one part on the device: means (N, K, d), sizes (N, K), z (N, G) standardised.

    The train part may have further bags of each slide.
    """

    means: Tensor
    sizes: Tensor
    z: Tensor
    resamples: ResampledBags | None = None

    def to(self, device: torch.device) -> TensorPart:
        further = None if self.resamples is None else self.resamples.to(device)
        return TensorPart(self.means.to(device), self.sizes.to(device), self.z.to(device), further)

    def batch(self, rows: Tensor, generator: torch.Generator) -> TensorPart:
        """Return the slides `rows` (B,), each with one of its bags drawn if it has further ones."""
        means, sizes = self.means[rows], self.sizes[rows]
        if self.resamples is not None:
            means, sizes = self.resamples.draw(rows, means, sizes, generator)
        return TensorPart(means, sizes, self.z[rows])

    def tensors(self) -> list[Tensor]:
        """Return all of its tensors."""
        further = [] if self.resamples is None else [self.resamples.means, self.resamples.sizes]
        return [self.means, self.sizes, self.z, *further]


class Objective(Protocol):
    """A training loss, a val loss for early stopping and model choice, and a final step on val."""

    part: TensorPart
    """The val slides."""

    def loss(self, model: Any, batch: TensorPart, generator: torch.Generator) -> Tensor:
        """Return the loss of a training batch."""

    def val(self, model: Any) -> float:
        """Return the loss of the val slides."""

    def finish(self, model: Any) -> tuple[float, dict[str, float]]:
        """Fit on val after training; return the val loss then, and facts for model.json."""


class FlowObjective:
    """Flow loss (Eq. 13): with condition dropout in training, at fixed times and noise on val."""

    def __init__(
        self,
        val: TensorPart,
        units: list[str],
        width: int,
        settings: dict[str, Settings],
        seed: int,
        fold: int,
        device: torch.device,
    ) -> None:
        self.part, self.units = val, units
        self.drop = settings["model"]["condition_dropout"]
        self.dtype = autocast_dtype(settings["train"]["precision"], device)
        pairs = settings["train"]["val_noise"]
        points = val_points(len(val.z), width, pairs, seed_for(seed, "val", fold))
        self.times, self.noise = (value.to(device) for value in points)

    def loss(self, model: RNAFM, batch: TensorPart, generator: torch.Generator) -> Tensor:
        return train_step_loss(model, batch, self.drop, generator)

    def val(self, model: RNAFM) -> float:
        return float(self.val_losses(model).mean())

    def val_losses(self, model: RNAFM) -> Tensor:
        """Return the loss (N,) of each val slide."""
        return val_losses(model, self.part, self.times, self.noise, self.dtype)

    def finish(self, model: RNAFM) -> tuple[float, dict[str, float]]:
        """Scale the residual sds on val.

        In-sample residuals are too small, so draws are too narrow. One common factor for all sds
        corrects this: the one of `SD_OFFSETS` with the lowest val loss. A start without a network
        has its factor (training/start.py).
        """
        before = self.val(model)
        if model.theta is None or not model.uses_network:
            return before, {"log_sd_offset": 0.0, "val_loss_before_scaling": before}
        best, losses = self.best_offset(model)
        model.theta.data = model.theta.data + best
        loss = float(losses.mean())
        log.info("residual sds scaled by %.2f: val loss %.4f", math.exp(best), loss)
        return loss, {"log_sd_offset": best, "val_loss_before_scaling": before}

    def best_offset(self, model: RNAFM) -> tuple[float, Tensor]:
        """Return the common log factor on the residual sds of least val loss, and losses (N,)."""
        assert model.theta is not None
        learned = model.theta.detach().clone()
        losses: dict[float, Tensor] = {}
        for offset in sorted(SD_OFFSETS, key=abs):
            model.theta.data = learned + offset
            losses[offset] = self.val_losses(model)
        model.theta.data = learned
        best = min(losses, key=lambda offset: float(losses[offset].mean()))
        return best, losses[best]


class SquaredError:
    """Mean squared error over slides and genes that vary, in units of the train variance."""

    def __init__(self, val: TensorPart, settings: TrainSettings, device: torch.device) -> None:
        self.part = val
        self.dtype = autocast_dtype(settings["precision"], device)

    def loss(self, model: Regressor, batch: TensorPart, generator: torch.Generator) -> Tensor:
        return path.loss(model(batch.means, batch.sizes), batch.z, model.active)

    @torch.no_grad()
    def val(self, model: Regressor) -> float:
        total = 0.0
        with autocast(self.part.z.device, self.dtype):
            for rows in torch.arange(len(self.part.z)).split(REGRESSION_ROWS):
                z = self.part.z[rows]
                predicted = model(self.part.means[rows], self.part.sizes[rows])
                total += path.loss(predicted, z, model.active).item() * len(rows)
        return total / len(self.part.z)

    def finish(self, model: Regressor) -> tuple[float, dict[str, float]]:
        return self.val(model), {}


def val_points(slides: int, width: int, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return stratified times (slides, pairs) in [0, 1] and white noise (slides, pairs, width).

    Each slide has one time in each of `pairs` equal strata. Positions within a stratum are spread
    evenly over the slides: with few val slides the loss then compares models, not chance.
    """
    generator = torch.Generator().manual_seed(seed)
    position = (torch.randperm(slides, generator=generator) + 0.5) / slides
    times = (torch.arange(pairs) + position[:, None]) / pairs
    return times, torch.randn(slides, pairs, width, generator=generator)


@torch.no_grad()
def val_losses(
    model: RNAFM, part: TensorPart, times: Tensor, noise: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """Return each slide's flow loss (Eq. 13) at stored times and noise, without dropout."""
    slides, pairs, width = noise.shape
    active = model.active
    losses = torch.zeros(slides, dtype=torch.float64)
    per_chunk = max(1, VAL_ROWS // pairs)
    with autocast(part.z.device, dtype):
        for start in range(0, slides, per_chunk):
            chunk = slice(start, min(start + per_chunk, slides))
            image = model.encode_image(part.means[chunk], part.sizes[chunk])
            t = times[chunk].reshape(-1)
            x0 = model.color(noise[chunk].reshape(-1, width)) * active
            x1 = part.z[chunk].repeat_interleave(pairs, dim=0)
            x_t, target = model.path.interpolate(x0, x1, t[:, None])
            velocity = model.velocity(x_t, t, image.repeat_interleave(pairs, dim=0))
            squares = (velocity.float() - target).square() * active
            rows = (squares.sum(dim=1) / active.sum()).view(-1, pairs).mean(dim=1)
            losses[chunk] = rows.double().cpu()
    return losses


def train_step_loss(
    model: RNAFM, batch: TensorPart, drop: float, generator: torch.Generator
) -> Tensor:
    """Return the flow loss of a batch: new noise, stratified times, conditions dropped per row."""
    rows, device = len(batch.z), batch.z.device
    active = model.active
    # Stratified over the batch: each time is still uniform, the batch mean varies less.
    t = (
        torch.arange(rows, device=device) + torch.rand(rows, generator=generator, device=device)
    ) / rows
    white = torch.randn(rows, model.noise_width, generator=generator, device=device)
    x0 = model.color(white) * active
    dropped = torch.rand(rows, generator=generator, device=device) < drop
    image = model.encode_image(batch.means, batch.sizes)
    image = torch.where(dropped[:, None], model.null_condition(rows).to(image.dtype), image)
    x_t, target = model.path.interpolate(x0, batch.z, t[:, None])
    return path.loss(model(x_t, t, image), target, active)


def optimiser(model: RNAFM | Regressor, settings: TrainSettings) -> torch.optim.AdamW:
    """Return AdamW with decay on matrices only, and ten times the rate for the residual log sd.

    A log sd has to move by about 1, a weight by about 1 / sqrt(fan-in). At the same rate the sd
    would lag behind the mean.
    """
    groups: dict[str, list[nn.Parameter]] = model.parameter_groups()
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    kinds = {"decay": (rate, decay), "plain": (rate, 0.0), "sd": (SD_RATE * rate, 0.0)}
    return torch.optim.AdamW(
        [
            {"params": groups[kind], "lr": lr, "weight_decay": wd}
            for kind, (lr, wd) in kinds.items()
            if groups.get(kind)
        ],
        betas=(settings["beta1"], settings["beta2"]),
        fused=settings["fused"],
    )
