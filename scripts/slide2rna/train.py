"""Training: one fold's model, stopped by the val flow loss of its averaged weights.

The training set lies on the device as one tensor. Every epoch has its own random stream, named
by its number, so that a run that was interrupted ends with the same weights as one that wasn't.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from slide2rna import checkpoint, flow
from slide2rna.cli import log
from slide2rna.config import Settings
from slide2rna.devices import autocast, autocast_dtype, compile_model
from slide2rna.errors import StageError
from slide2rna.io import seed_for, write_parquet
from slide2rna.model import RNAFM

EMA_RANGE = (0.85, 0.999)
SD_RATE = 10.0
VAL_ROWS = 256
SD_OFFSETS = [i / 20 for i in range(-6, 13)]
STATE = "checkpoint/state.safetensors"


@dataclass(frozen=True)
class Part:
    """Slides of one part on the device: means (N, K, d), sizes (N, K), z (N, G) standardised."""

    means: Tensor
    sizes: Tensor
    z: Tensor

    def to(self, device: torch.device) -> Part:
        return Part(self.means.to(device), self.sizes.to(device), self.z.to(device))


@dataclass
class Progress:
    """What a run has reached; JSON, stored with the checkpoint."""

    epoch: int
    step: int
    best_epoch: int
    best_val: float
    log: list[dict[str, float]]


def ema_decay(step: int) -> float:
    """Decay of the weight average after `step` optimiser steps.

    (1 + n) / (10 + n) between .85 and .999: .9 after 80 steps, .99 after 890, .999 after 8,990:
    the published ramp .85 -> .9 -> .999 without its unstated knots.
    """
    low, high = EMA_RANGE
    return min(high, max(low, (1 + step) / (10 + step)))


def val_points(slides: int, genes: int, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Fixed times (slides, pairs), stratified over [0, 1], and noise (slides, pairs, genes).

    Each slide has one time in each of `pairs` equal strata, and the places within a stratum are
    spread evenly over the slides: with few val slides the loss then compares models, not luck.
    """
    generator = torch.Generator().manual_seed(seed)
    place = (torch.randperm(slides, generator=generator) + 0.5) / slides
    times = (torch.arange(pairs) + place[:, None]) / pairs
    return times, torch.randn(slides, pairs, genes, generator=generator)


@torch.no_grad()
def val_loss(
    model: RNAFM, part: Part, times: Tensor, noise: Tensor, dtype: torch.dtype | None = None
) -> float:
    """Flow loss (Eq. 13) at the stored times and noise, without condition dropout."""
    slides, pairs, genes = noise.shape
    active = model.active
    total = 0.0
    per_chunk = max(1, VAL_ROWS // pairs)
    with autocast(part.z.device, dtype):
        for start in range(0, slides, per_chunk):
            chunk = slice(start, min(start + per_chunk, slides))
            image = model.encode_image(part.means[chunk], part.sizes[chunk])
            t = times[chunk].reshape(-1)
            x0 = noise[chunk].reshape(-1, genes) * active
            x1 = part.z[chunk].repeat_interleave(pairs, dim=0)
            x_t, target = model.path.interpolate(x0, x1, t[:, None])
            velocity = model.velocity(x_t, t, image.repeat_interleave(pairs, dim=0))
            total += flow.loss(velocity, target, active).item() * len(t)
    return total / (slides * pairs)


def train_step_loss(model: RNAFM, batch: Part, drop: float, generator: torch.Generator) -> Tensor:
    """Flow loss of one batch: fresh noise, stratified uniform times, conditions dropped per row."""
    rows, device = len(batch.z), batch.z.device
    active = model.active
    # Stratified over the batch: each time is still uniform, the mean over the batch varies less.
    t = (
        torch.arange(rows, device=device) + torch.rand(rows, generator=generator, device=device)
    ) / rows
    x0 = torch.randn(batch.z.shape, generator=generator, device=device) * active
    dropped = torch.rand(rows, generator=generator, device=device) < drop
    image = model.encode_image(batch.means, batch.sizes)
    image = torch.where(dropped[:, None], model.null_condition(rows).to(image.dtype), image)
    x_t, target = model.path.interpolate(x0, batch.z, t[:, None])
    return flow.loss(model(x_t, t, image), target, active)


def optimiser(model: RNAFM, settings: Settings) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, and ten times the rate for the residual log sd.

    A log sd has to travel about 1, a weight about the square root of its fan-in's inverse; at one
    rate the sd would lag behind the mean.
    """
    groups = model.parameter_groups()
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    kinds = (("decay", rate, decay), ("plain", rate, 0.0), ("sd", SD_RATE * rate, 0.0))
    return torch.optim.AdamW(
        [
            {"params": groups[kind], "lr": lr, "weight_decay": wd}
            for kind, lr, wd in kinds
            if groups[kind]
        ],
        betas=(settings["beta1"], settings["beta2"]),
        fused=settings["fused"],
    )


class Trainer:
    """One fold's training with its state: weights, averaged weights, best weights, optimiser."""

    def __init__(
        self,
        model: RNAFM,
        train: Part,
        val: Part,
        settings: Settings,
        drop: float,
        seed: int,
        fold: int,
        device: torch.device,
    ) -> None:
        self.settings, self.drop, self.seed, self.fold, self.device = (
            *(settings, drop, seed, fold, device),
        )
        self.model = model.to(device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.best = [p.detach().clone() for p in self.ema.parameters()]
        self.model.recompute = settings["recompute"]
        compile_model(self.model, settings["compile"], device)
        self.optimiser = optimiser(self.model, settings)
        self.train, self.val = train.to(device), val.to(device)
        slides, genes = val.z.shape
        points = val_points(slides, genes, settings["val_noise"], seed_for(seed, "val", fold))
        self.times, self.noise = (value.to(device) for value in points)
        self.dtype = autocast_dtype(settings["precision"], device)
        self.progress = Progress(0, 0, 0, math.inf, [])

    def epoch(self) -> None:
        """One pass over the train slides, then the val loss of the averaged weights."""
        started = time.monotonic()
        state = self.progress
        number = state.epoch + 1
        name = seed_for(self.seed, "train", self.fold, number)
        torch.manual_seed(name)  # dropout draws from the global stream
        generator = torch.Generator(self.device).manual_seed(name)
        self.model.train()
        n = len(self.train.z)
        order = torch.randperm(n, generator=generator, device=self.device)
        total = torch.zeros((), device=self.device)
        for rows in order.chunk(-(-n // self.settings["batch"])):
            batch = Part(self.train.means[rows], self.train.sizes[rows], self.train.z[rows])
            self.optimiser.zero_grad(set_to_none=True)
            with autocast(self.device, self.dtype):
                loss = train_step_loss(self.model, batch, self.drop, generator)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["clip"])
            self.optimiser.step()
            state.step += 1
            weight = 1 - ema_decay(state.step)
            self._average(weight)
            total += loss.detach() * len(rows)
        train_loss = total.item() / n
        val = val_loss(self.ema, self.val, self.times, self.noise, self.dtype)
        if not math.isfinite(train_loss) or not math.isfinite(val):
            raise StageError(
                f"fold {self.fold}, epoch {number}",
                f"the loss isn't finite (train {train_loss}, val {val})",
                "lower train.learning_rate, or look for extreme values in the expression table",
            )
        if val < state.best_val:
            state.best_val, state.best_epoch = val, number
            torch._foreach_copy_(self.best, list(self.ema.parameters()))
        state.epoch = number
        row = {
            "epoch": number,
            "train_loss": train_loss,
            "val_loss": val,
            "lr": self.settings["learning_rate"],
            "ema_decay": ema_decay(state.step),
            "seconds": round(time.monotonic() - started, 3),
        }
        state.log.append(row)

    @torch.no_grad()
    def _average(self, weight: float) -> None:
        average: list[Tensor] = list(self.ema.parameters())
        fresh: list[Tensor] = list(self.model.parameters())
        if self.settings["fused"]:
            torch._foreach_lerp_(average, fresh, weight)
            return
        for mean, value in zip(average, fresh, strict=True):
            mean.lerp_(value, weight)

    @property
    def finished(self) -> bool:
        state = self.progress
        return (
            state.epoch >= self.settings["epochs"]
            or state.epoch - state.best_epoch >= self.settings["patience"]
        )

    def save(self, path: Path, key: str) -> None:
        """Write everything that the next epoch depends on."""
        tensors: dict[str, Tensor] = {}
        for prefix, values in self._tensors().items():
            tensors |= {f"{prefix}.{i}": value for i, value in enumerate(values)}
        for i, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": value for name, value in entry.items()}
        checkpoint.save_state(path, tensors, {"key": key, **vars(self.progress)})

    def resume(self, path: Path, key: str) -> bool:
        """Go on from a checkpoint of the same run; false if there is none."""
        found = checkpoint.load_state(path)
        if found is None:
            return False
        tensors, state = found
        if state.pop("key") != key:
            log.info("the checkpoint is from other inputs or settings: starting afresh")
            return False
        for prefix, values in self._tensors().items():
            for i, value in enumerate(values):
                value.data.copy_(tensors[f"{prefix}.{i}"])
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, number, *rest = name.split(".")
            if kind == "optimiser":
                entries.setdefault(int(number), {})[rest[0]] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": entries, "param_groups": groups})
        self.progress = Progress(**state)
        log.info("going on after epoch %d", self.progress.epoch)
        return True

    def _tensors(self) -> dict[str, list[Tensor]]:
        return {
            "model": list(self.model.parameters()),
            "ema": list(self.ema.parameters()),
            "best": self.best,
        }

    def best_model(self) -> tuple[RNAFM, float, float]:
        """The averaged weights of the best epoch, with the residual sds scaled on val.

        Residuals of slides that were trained on are too small, so draws are too narrow; one common
        factor for all sds, the one of `SD_OFFSETS` with the lowest val loss, makes up for it.

        Returns
        -------
        model, loss, offset
            The model, its val loss, and what was added to every log sd.
        """
        torch._foreach_copy_(list(self.ema.parameters()), self.best)
        theta = self.ema.theta
        if theta is None:
            return self.ema, self.progress.best_val, 0.0
        learned = theta.detach().clone()
        losses: dict[float, float] = {}
        for offset in sorted(SD_OFFSETS, key=abs):
            theta.data = learned + offset
            losses[offset] = val_loss(self.ema, self.val, self.times, self.noise, self.dtype)
        best = min(losses, key=lambda offset: losses[offset])
        theta.data = learned + best
        return self.ema, losses[best], best


def run(
    trainer: Trainer,
    out: str | Path,
    meta: dict[str, Any],
    after_epoch: Callable[[int], None] | None,
) -> RNAFM:
    """Train to the end, from a checkpoint where there is one, and write the model's folder.

    Parameters
    ----------
    trainer
        A fresh trainer.
    out
        The model's folder; `checkpoint/` in it is removed at the end.
    meta
        Content of model.json so far; best_epoch, val_loss and epochs are added.
    after_epoch
        Called with the epoch's number after its checkpoint, for tests.
    """
    out, settings = Path(out), trainer.settings
    inputs = [meta, sorted(settings.items()), _digest(trainer)]
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    trainer.resume(out / STATE, key)
    last = time.monotonic()
    while not trainer.finished:
        trainer.epoch()
        state = trainer.progress
        if state.epoch % settings["checkpoint_epochs"] == 0:
            trainer.save(out / STATE, key)
        if time.monotonic() - last >= 10 or state.epoch == 1:
            last = time.monotonic()
            row = state.log[-1]
            log.info(
                "epoch %d: train %.4f, val %.4f (best %.4f in epoch %d)",
                *(
                    state.epoch,
                    row["train_loss"],
                    row["val_loss"],
                    state.best_val,
                    state.best_epoch,
                ),
            )
        if after_epoch is not None:
            after_epoch(state.epoch)
    state = trainer.progress
    log.info("best val loss %.4f in epoch %d of %d", state.best_val, state.best_epoch, state.epoch)
    model, loss, offset = trainer.best_model()
    log.info("residual sds scaled by %.2f: val loss %.4f", math.exp(offset), loss)
    result = {
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "val_loss": loss,
        "val_loss_before_scaling": state.best_val,
        "log_sd_offset": offset,
    }
    schema = {name: pl.Int64 if name == "epoch" else pl.Float64 for name in state.log[0]}
    write_parquet(pl.DataFrame(state.log, schema=schema), out / "log.parquet")
    checkpoint.save_model(out, model, meta | result)
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    return model


def _digest(trainer: Trainer) -> str:
    """Hash of the data, so that a checkpoint of other data isn't continued."""
    digest = hashlib.sha256()
    for part in (trainer.train, trainer.val):
        for value in (part.means, part.sizes, part.z):
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
