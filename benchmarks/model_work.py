"""Network and loop over pathways at one size: weights, inputs, arithmetic, a training step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from loop import LoopModel, guided
from slide2rna.core import config
from slide2rna.core.config import Settings
from slide2rna.flow import solvers
from slide2rna.flow.velocity import RNAFM
from slide2rna.pathways.membership import Pathways
from slide2rna.published import weight_names
from slide2rna.sampling import draw as sampling_draw
from torch import Tensor

GENES, FEATURES, CLUSTERS, BATCH, STEPS = 20_820, 1024, 100, 32, 20
MODEL = config.defaults(
    "model", hidden=256, skip="none", cluster_weights=False, dropout=0.0, condition_dropout=0.0
)
ONE_STEP = config.defaults("sample", steps=1, solver="euler", guidance=2.0)


def gene_sets(sets: int, memberships: int, largest: int, genes: int = GENES) -> Pathways:
    """Return sets with log-normal sizes of at least 10 genes, about `memberships` in all."""
    rng = np.random.default_rng(0)
    raw = rng.lognormal(0, 1.3, sets)
    sizes = (raw * memberships / raw.sum()).astype(int).clip(10, largest)
    index = [np.sort(rng.choice(genes - 2300, size, replace=False)) for size in sizes]
    return Pathways([f"set{i}" for i in range(sets)], index, genes)


def many_sets() -> Pathways:
    """Return as many sets as GO biological process has, about."""
    return gene_sets(3000, 225_000, 500)


def build(sets: Pathways, device: torch.device, settings: Settings = MODEL) -> RNAFM:
    """Build a model in which no weight is zero, so that both models and both branches differ."""
    torch.manual_seed(0)
    model = RNAFM(sets, FEATURES, CLUSTERS, settings)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model.to(device)


def loop_of(model: RNAFM, device: torch.device) -> LoopModel:
    """Return the loop model with the weights of ours."""
    other = LoopModel(model.pathways, FEATURES, CLUSTERS, MODEL)
    other.load_state_dict(weight_names.to_published(model))
    return other.to(device).to_device(device)


def gigaflops(
    sets: Pathways, rows: int, slides: int, branches: int = 1, settings: Settings = MODEL
) -> float:
    """Count operations of a forward, in 10^9: `rows` profiles of `slides` slides."""
    h, p, ratio = settings["hidden"], len(sets.index), settings["mlp_ratio"]
    d, k = FEATURES, CLUSTERS
    genes = int(sets.sizes.sum()) + len(sets.background)
    token = (8 + 4 * ratio) * h * h + 4 * p * h
    prelude = 2 * genes * h + 2 * p * h * h + p * token
    branch = settings["blocks"] * p * token
    head = 2 * genes * h
    cluster = settings["cluster_layers"] * k * (8 * d * d + 4 * k * d + 16 * d * h) + 2 * d * (
        d + h
    )
    modulations = branches * (12 * settings["blocks"] + 4 * p) * h * h
    return (rows * (prelude + branches * branch + head) + slides * (cluster + modulations)) / 1e9


def training_step(model: torch.nn.Module, forward: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward, backward, clip, AdamW and weight average."""
    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    fresh = [parameter.detach() for parameter in parameters]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        forward().square().mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        torch._foreach_lerp_(average, fresh, 0.01)

    return step


class Work:
    """Both models on the same inputs."""

    def __init__(self, sets: Pathways, batch: int, device: torch.device) -> None:
        self.sets, self.batch = sets, batch
        self.ours = build(sets, device).eval()
        self.loop = loop_of(self.ours, device).eval()
        generator = torch.Generator().manual_seed(1)
        shapes = ((batch, GENES), (batch,), (batch, CLUSTERS, FEATURES))
        self.x, t, self.bags = (
            torch.randn(shape, generator=generator).to(device) for shape in shapes
        )
        self.t = t.sigmoid()
        self.sizes = torch.ones(batch, CLUSTERS, device=device)
        self.empty = torch.randn(1, CLUSTERS, FEATURES, generator=generator).to(device)
        with torch.no_grad():
            self.ours.null.copy_(self.ours.encode_image(self.empty, self.sizes[:1])[0])
            self.image = self.ours.encode_image(self.bags[:1], self.sizes[:1])

    def forward(self) -> Tensor:
        return self.ours(self.x, self.t, self.ours.encode_image(self.bags, self.sizes))

    def loop_forward(self) -> Tensor:
        return self.loop(self.x, self.t, self.bags)

    def draws(self) -> Tensor:
        """Take one guided Euler step of a batch of draws of one slide, from its bag to the end."""
        with torch.inference_mode():
            image = self.ours.encode_image(self.bags[:1], self.sizes[:1])
        return sampling_draw.draw(self.ours, image, self.x[None], ONE_STEP)[0]

    @torch.inference_mode()
    def loop_draws(self) -> Tensor:
        t = torch.zeros(self.batch, device=self.x.device)
        bags = self.bags[:1].expand(self.batch, -1, -1)
        empty = self.empty.expand(self.batch, -1, -1)
        return self.x + guided(self.loop, self.x, t, bags, empty, 2.0)

    @torch.inference_mode()
    def sampler(self) -> Tensor:
        return solvers.solve(lambda x, t: self.ours(x, t, self.image, 2.0), self.x, STEPS)

    @torch.inference_mode()
    def mean(self) -> Tensor:
        zero = torch.zeros((), device=self.x.device)
        return self.x + self.ours(self.x, zero, self.image)

    def embed_and_heads(self) -> None:
        self.ours.zero_grad(set_to_none=True)
        tokens, outside = self.ours.gene_embedder(self.x)
        heads = self.ours.final_layer
        heads(heads.modulate(tokens, outside, self.condition)).square().mean().backward()

    def loop_embed_and_heads(self) -> None:
        self.loop.zero_grad(set_to_none=True)
        tokens, outside = self.loop.gene_embedder(self.x)
        c = self.condition
        values = [*self.loop.final_layer(tokens, c), self.loop.bg_head(outside, c)]
        self.loop.average(values, self.x).square().mean().backward()

    @property
    def condition(self) -> Tensor:
        return self.x[:, : MODEL["hidden"]]
