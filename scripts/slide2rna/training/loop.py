"""Training loop: one network on one fold, stopped early on the val loss of its averaged weights.

The whole training set is on the device. Every epoch has a random stream, seeded by its number, so
an interrupted run ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slide2rna.core.devices import autocast, autocast_dtype, compile_model
from slide2rna.core.errors import StageError
from slide2rna.core.log import log
from slide2rna.core.seeds import seed_for
from slide2rna.core.settings import TrainSettings
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.models.regressor import Regressor
from slide2rna.training.objective import FlowObjective, Objective, TensorPart, optimiser
from slide2rna.training.selection import clearly_better

Network = RNAFM | Regressor
EMA_RANGE = (0.85, 0.999)


class DivergedError(StageError):
    """The loss has become non-finite."""


@dataclass
class Progress:
    """Progress of a run, stored as JSON with the checkpoint."""

    epoch: int
    step: int
    best_epoch: int
    best_val: float
    log: list[dict[str, float]]


@dataclass(frozen=True)
class Result:
    """A trained network, the val loss that compares configurations, and facts for model.json."""

    model: Network
    loss: float
    progress: Progress
    facts: dict[str, float]


def ema_decay(step: int) -> float:
    """Return the decay of the weight average after `step` optimiser steps.

    (1 + n) / (10 + n) between .85 and .999: .9 after 80 steps, .99 after 890, .999 after 8,990.
    This follows the published ramp .85 -> .9 -> .999, whose knots aren't stated.
    """
    low, high = EMA_RANGE
    return min(high, max(low, (1 + step) / (10 + step)))


class Trainer:
    """Training of one fold with its state: weights, averaged weights, best weights, optimiser."""

    def __init__(
        self,
        model: Network,
        train: TensorPart,
        objective: Objective,
        settings: TrainSettings,
        seed: int,
        fold: int,
        device: torch.device,
    ) -> None:
        self.settings, self.objective = settings, objective
        self.seed, self.fold, self.device = seed, fold, device
        self.model = model.to(device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.best = [p.detach().clone() for p in self.ema.parameters()]
        self.start = [p.clone() for p in self.best]
        self.model.recompute = settings["recompute"]
        compile_model(self.model, settings["compile"], device)
        self.optimiser = optimiser(self.model, settings)
        self.train = train
        self.dtype = autocast_dtype(settings["precision"], device)
        self.progress = Progress(0, 0, 0, math.inf, [])

    def epoch(self) -> None:
        """Run one pass over the train slides, then compute the val loss of the averaged weights."""
        started = time.monotonic()
        state = self.progress
        number = state.epoch + 1
        seed = seed_for(self.seed, "train", self.fold, number)
        torch.manual_seed(seed)  # dropout draws from the global stream
        generator = torch.Generator(self.device).manual_seed(seed)
        self.model.train()
        n = len(self.train.z)
        order = torch.randperm(n, generator=generator, device=self.device)
        total = torch.zeros((), device=self.device)
        for rows in order.chunk(-(-n // self.settings["batch"])):
            batch = self.train.batch(rows, generator)
            self.optimiser.zero_grad(set_to_none=True)
            with autocast(self.device, self.dtype):
                loss = self.objective.loss(self.model, batch, generator)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["clip"])
            self.optimiser.step()
            state.step += 1
            weight = 1 - ema_decay(state.step)
            self._update_average(weight)
            total += loss.detach() * len(rows)
        train_loss = total.item() / n
        val = self.objective.val(self.ema)
        if not math.isfinite(train_loss) or not math.isfinite(val):
            raise DivergedError(
                f"fold {self.fold}, epoch {number}",
                f"the loss isn't finite (train {train_loss}, val {val})",
                "lower the network's learning_rate, or look for extreme values in the expression "
                "table",
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
    def _update_average(self, weight: float) -> None:
        average: list[Tensor] = list(self.ema.parameters())
        current: list[Tensor] = list(self.model.parameters())
        if self.settings["fused"]:
            torch._foreach_lerp_(average, current, weight)
            return
        for mean, value in zip(average, current, strict=True):
            mean.lerp_(value, weight)

    @property
    def finished(self) -> bool:
        state = self.progress
        return (
            state.epoch >= self.settings["epochs"]
            or state.epoch - state.best_epoch >= self.settings["patience"]
        )

    def save(self, path: Path, key: str) -> None:
        """Write the state that the next epoch depends on."""
        tensors: dict[str, Tensor] = {}
        for prefix, values in self._state_tensors().items():
            tensors |= {f"{prefix}.{i}": value for i, value in enumerate(values)}
        for i, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": value for name, value in entry.items()}
        checkpoint.save_state(path, tensors, {"key": key, **vars(self.progress)})

    def resume(self, path: Path, key: str) -> bool:
        """Resume from a checkpoint of the same run; return False if there isn't one."""
        stored = checkpoint.load_state(path)
        if stored is None:
            return False
        tensors, state = stored
        if state.pop("key") != key:
            log.info("the checkpoint is from other inputs or settings: starting from scratch")
            return False
        for prefix, values in self._state_tensors().items():
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
        log.info("resuming after epoch %d", self.progress.epoch)
        return True

    def _state_tensors(self) -> dict[str, list[Tensor]]:
        return {
            "model": list(self.model.parameters()),
            "ema": list(self.ema.parameters()),
            "best": self.best,
        }

    def best_model(self) -> Network:
        """Return the averaged weights of the best epoch."""
        torch._foreach_copy_(list(self.ema.parameters()), self.best)
        started = isinstance(self.ema, RNAFM) and self.ema.mean is not None
        if started and isinstance(self.objective, FlowObjective):
            self._keep_start_unless_better(self.ema, self.objective)
        return self.ema

    def _keep_start_unless_better(self, model: Network, objective: FlowObjective) -> None:
        """Go back to the start, and leave the network out, unless val is clearly better."""
        assert isinstance(model, RNAFM)
        weights: list[Tensor] = list(model.parameters())
        # Each with its best common sd, so that a better sd doesn't make the network seem better.
        trained = objective.best_offset(model)[1].numpy()
        torch._foreach_copy_(weights, self.start)
        model.uses_network = False
        started = objective.best_offset(model)[1].numpy()
        if self.progress.best_epoch and clearly_better(trained, started, objective.units):
            torch._foreach_copy_(weights, self.best)
            model.uses_network = True
        else:
            self.progress.best_epoch, self.progress.best_val = 0, float(objective.val(model))


def train_network(
    trainer: Trainer,
    path: Path,
    inputs: Any,
    after_epoch: Callable[[int], None] | None = None,
) -> Result:
    """Train to the end, from a checkpoint if it exists.

    Parameters
    ----------
    trainer
        A fresh trainer.
    path
        The checkpoint. It isn't deleted, so that finished training isn't repeated.
    inputs
        Inputs of the training other than the trainer's settings and data (JSON).
    after_epoch
        Called with the epoch's number after its checkpoint, for tests.
    """
    settings, state = trainer.settings, trainer.progress
    text = json.dumps([inputs, sorted(settings.items()), _digest(trainer)], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    if not trainer.resume(path, key):
        # The initial weights are the result if no epoch improves on them.
        state.best_val = trainer.objective.val(trainer.ema)
        log.info("val %.4f before training", state.best_val)
    last = time.monotonic()
    while not trainer.finished:
        trainer.epoch()
        state = trainer.progress
        if state.epoch % settings["checkpoint_epochs"] == 0 or trainer.finished:
            trainer.save(path, key)
        if time.monotonic() - last >= 10 or state.epoch == 1:
            last = time.monotonic()
            row = state.log[-1]
            losses = row["train_loss"], row["val_loss"], state.best_val
            message = "epoch %d: train %.4f, val %.4f (best %.4f in epoch %d)"
            log.info(message, state.epoch, *losses, state.best_epoch)
        if after_epoch is not None:
            after_epoch(state.epoch)
    state = trainer.progress
    model = trainer.best_model()
    log.info("best val loss %.4f in epoch %d of %d", state.best_val, state.best_epoch, state.epoch)
    loss, facts = trainer.objective.finish(model)
    return Result(model, loss, state, facts)


def _digest(trainer: Trainer) -> str:
    """Hash the data and the initial model, which may come from other cohorts.

    A checkpoint of another start or of other data isn't resumed.
    """
    digest = hashlib.sha256()
    for value in trainer.ema.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    for part in (trainer.train, trainer.objective.part):
        for value in part.tensors():
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
