"""Fit of the spatial flow: mean, residual law, then the network, which must earn its place.

1. A ridge on each spot's features and its neighbours' mean.
2. The law of its held-out residuals: sd per gene, correlation between genes, between spots.
3. A network that moves the conditional mean. It trains around held-out predictions, since the
   ridge fits its own training spots better than any other. Unless val is clearly better with it,
   it is left out, and the draws are the ridge plus Gaussian residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from slide2rna.core import seeds
from slide2rna.core.types import Array
from slide2rna.flow import solvers
from slide2rna.spatial import fields, linear_models, residual_draws
from slide2rna.spatial.linear_models import SpotRidge
from slide2rna.spatial.residual_draws import ResidualLaw
from slide2rna.spatial.slides import SpotSlide, stacked
from slide2rna.spatial.targets import Target
from slide2rna.spatial.velocity import SlideTensors, SpotVelocity
from slide2rna.training.early_stopping import Course, train_by_val

VAL_TIMES = tuple(np.linspace(0.05, 0.95, 8))
VAL_DRAWS, VAL_STEPS = 8, 4
MEAN_FIELDS = 4  # noise fields, with both signs, behind a point prediction


@dataclass(frozen=True)
class SpotFlowSettings:
    """Settings of the spatial flow.

    Attributes
    ----------
    hidden, heads, layers, dropout : of the network.
    learning_rate, weight_decay : of AdamW.
    repeats : noise fields per slide and step.
    max_factors : most shared factors of the genes' residuals.
    edges : False leaves the graph out of the network; spots are then encoded alone.
    joint : the network sees its neighbours' noisy expression, too.
    """

    hidden: int = 64
    heads: int = 4
    layers: int = 2
    dropout: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    repeats: int = 4
    max_factors: int = 16
    edges: bool = True
    joint: bool = False


@dataclass(frozen=True)
class SpotFlow:
    """A fitted spatial flow.

    Attributes
    ----------
    target : the target that it was fitted to.
    gene_mean, gene_sd : (G,) of the training spots.
    feature_mean, feature_sd : (d,) of the training spots.
    ridge : the fitted mean, in the target's own unit.
    law : of its residuals, in units of gene_sd.
    network : the velocity.
    course : of its training.
    settings : as fitted.
    widening : factor on the deviations of draws from the point; 1 without the network.
    """

    target: Target
    gene_mean: Array
    gene_sd: Array
    feature_mean: Array
    feature_sd: Array
    ridge: SpotRidge
    law: ResidualLaw
    network: SpotVelocity
    course: Course
    settings: SpotFlowSettings
    widening: float = 1.0

    def tensors(self, slide: SpotSlide) -> SlideTensors:
        """Return a new slide as the network takes it."""
        return self.tensors_around(slide, self.ridge.predict(slide))

    def tensors_around(self, slide: SpotSlide, mean: Array) -> SlideTensors:
        """Return a slide with a given mean (n, G), in the target's unit."""
        features = (slide.features - self.feature_mean) / self.feature_sd
        scaled = torch.from_numpy((mean - self.gene_mean) / self.gene_sd).float()
        return SlideTensors.of(
            slide, torch.from_numpy(features).float(), scaled, self.settings.edges
        )

    @torch.inference_mode()
    def point(self, slide: SpotSlide, seed: int) -> Array:
        """Predict the posterior mean (n, G) of a slide."""
        if not self.network.uses_network:
            return self.ridge.predict(slide)
        tensors = self.tensors(slide)
        condition = self.network.encode(tensors)
        rng = seeds.rng_for(seed, "spatial-mean", slide.name)
        noise = self._noise(slide, MEAN_FIELDS, rng)
        zero = torch.zeros(())
        means = [
            self.network.conditional_mean(sign * x, zero, tensors, condition)
            for x in noise
            for sign in (1, -1)
        ]
        return self._restore(torch.stack(means).mean(0))

    @torch.inference_mode()
    def draw(self, slide: SpotSlide, draws: int, steps: int, seed: int) -> Array:
        """Draw maps (draws, n, G) of a slide, joint over its spots and genes, float32.

        The noise has its own stream per slide, so that draws depend on no other slide.
        """
        tensors = self.tensors(slide)
        condition = self.network.encode(tensors)
        rng = seeds.rng_for(seed, "spatial-draws", slide.name)
        made = np.empty((draws, *tensors.mean.shape), dtype=np.float32)
        for number, noise in enumerate(self._noise(slide, draws, rng)):
            solved = solvers.solve(
                lambda x, t: self.network(x, t, tensors, condition),
                noise,
                steps,
                "exponential",
                self.network.path,
                self.network.sd,
            )
            made[number] = self._restore(solved)
        if self.widening != 1:
            point = self.point(slide, seed)
            made = (point + self.widening * (made - point)).astype(np.float32)
        return made

    def _noise(self, slide: SpotSlide, count: int, rng: np.random.Generator) -> Tensor:
        root = self.law.space.root(slide.xy, slide.pitch)
        return torch.from_numpy(fields.draw_field(root, self.law.loadings, count, rng))

    def _restore(self, values: Tensor) -> Array:
        return values.double().numpy() * self.gene_sd + self.gene_mean


def fit(
    train: Sequence[SpotSlide],
    val: Sequence[SpotSlide],
    target: Target,
    settings: SpotFlowSettings,
    seed: int,
) -> SpotFlow:
    """Fit the flow to training slides; val slides choose, and no other slide is seen."""
    every = stacked(train, target)
    gene_mean, gene_sd = every.mean(axis=0), np.maximum(every.std(axis=0), 1e-6)
    features = np.concatenate([slide.features for slide in train])
    feature_sd = features.std(axis=0)
    ridge = linear_models.fit(train, val, target, linear_models.with_neighbours)
    val_means = [ridge.predict(slide) for slide in val]
    left_out = [residuals / gene_sd for residuals in ridge.left_out]
    val_residuals = [
        (slide.target(target) - mean) / gene_sd for slide, mean in zip(val, val_means, strict=True)
    ]
    law = residual_draws.fit(train, left_out, val_residuals, settings.max_factors)
    torch.manual_seed(seeds.seed_for(seed, "spatial", target))
    network = SpotVelocity(
        genes=len(gene_mean),
        features=features.shape[1],
        hidden=settings.hidden,
        heads=settings.heads,
        layers=settings.layers,
        dropout=settings.dropout,
        residual_sd=torch.from_numpy(law.sd).float(),
        joint=settings.joint,
    )
    made = SpotFlow(
        target=target,
        gene_mean=gene_mean,
        gene_sd=gene_sd,
        feature_mean=features.mean(axis=0),
        feature_sd=np.where(feature_sd > 1e-9, feature_sd, 1.0),
        ridge=ridge,
        law=law,
        network=network,
        course=Course(0, 0, 0.0, 0.0),
        settings=settings,
    )
    means = [
        slide.target(target) - residuals
        for slide, residuals in zip(train, ridge.left_out, strict=True)
    ]
    course = _train(made, train, means, val, val_means, seed)
    network.uses_network = course.best_epoch > 0
    made = replace(made, course=course)
    return replace(made, widening=_widening(made, val, seed)) if course.best_epoch else made


def _widening(made: SpotFlow, val: Sequence[SpotSlide], seed: int) -> float:
    """Return the ratio of val's residuals to the deviations of draws from the point, in rms.

    The network fits its training spots better than new ones, so draws alone are too narrow.
    """
    squares = np.zeros(2)
    for slide in val:
        point = made.point(slide, seed)
        drawn = made.draw(slide, VAL_DRAWS, VAL_STEPS, seed)
        for row, values in enumerate((slide.target(made.target), drawn)):
            squares[row] += np.square((values - point) / made.gene_sd).mean()
    return float(np.sqrt(squares[0] / squares[1]))


def _train(
    made: SpotFlow,
    train: Sequence[SpotSlide],
    means: Sequence[Array],
    val: Sequence[SpotSlide],
    val_means: Sequence[Array],
    seed: int,
) -> Course:
    """Train the network; val has fixed noise and times."""
    rng = seeds.rng_for(seed, "spatial-noise")
    tensors = [made.tensors_around(s, mean) for s, mean in zip(train, means, strict=True)]
    truths = [_scaled(made, slide) for slide in train]
    roots = [made.law.space.root(slide.xy, slide.pitch) for slide in train]
    val_tensors = [made.tensors_around(s, mean) for s, mean in zip(val, val_means, strict=True)]
    val_noise = [made._noise(slide, len(VAL_TIMES), rng) for slide in val]
    network = made.network

    def slide_loss(row: int) -> Tensor:
        condition = network.encode(tensors[row])
        noise = torch.from_numpy(
            fields.draw_field(roots[row], made.law.loadings, made.settings.repeats, rng)
        )
        times = torch.from_numpy(rng.uniform(size=len(noise))).float()
        losses = [
            _loss(network, x, truths[row], t, tensors[row], condition)
            for x, t in zip(noise, times, strict=True)
        ]
        return torch.stack(losses).mean()

    def loss(rows: Tensor) -> Tensor:
        return torch.stack([slide_loss(int(row)) for row in rows]).mean()

    @torch.inference_mode()
    def errors(module: SpotVelocity) -> Tensor:
        found = []
        for slide, data, noise in zip(val, val_tensors, val_noise, strict=True):
            condition, truth = module.encode(data), _scaled(made, slide)
            parts = [
                _loss(module, x, truth, torch.tensor(t).float(), data, condition)
                for x, t in zip(noise, VAL_TIMES, strict=True)
            ]
            found.append(torch.stack(parts).mean().double())
        return torch.stack(found)

    rates = (made.settings.learning_rate, made.settings.weight_decay)
    return train_by_val(network, loss, errors, [s.patient for s in val], len(train), rates)


def _scaled(made: SpotFlow, slide: SpotSlide) -> Tensor:
    values = (slide.target(made.target) - made.gene_mean) / made.gene_sd
    return torch.from_numpy(values).float()


def _loss(
    network: SpotVelocity,
    x0: Tensor,
    x1: Tensor,
    t: Tensor,
    slide: SlideTensors,
    condition: Tensor,
) -> Tensor:
    """Return the flow-matching loss of a slide: mean square over spots and genes."""
    x_t, wanted = network.path.interpolate(x0, x1, t)
    return (network(x_t, t, slide, condition) - wanted).square().mean()
