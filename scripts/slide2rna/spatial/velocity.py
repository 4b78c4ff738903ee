"""Velocity of a slide's expression: a Gaussian skip around a fitted mean, and a small network.

v = k_g(t) x + c_g(t) F_g(x, t, image), with k and c of `flow.path.Path.gaussian` at each gene's
residual sd. F starts as the fitted mean, so that without training the draws are the mean plus
Gaussian noise with the law of its residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slide2rna.flow.layers import TimeEmbedder
from slide2rna.flow.path import Path
from slide2rna.spatial.graph_encoder import GraphEncoder, edge_facts
from slide2rna.spatial.slides import SpotSlide


@dataclass(frozen=True)
class SlideTensors:
    """A slide as the network takes it.

    Attributes
    ----------
    features : (n, d) standardised on train.
    mean : (n, G) fitted mean, in units of the train sd.
    target, source : (E,) edges.
    edges : (E, 2) facts.
    """

    features: Tensor
    mean: Tensor
    target: Tensor
    source: Tensor
    edges: Tensor

    @classmethod
    def of(
        cls, slide: SpotSlide, features: Tensor, mean: Tensor, edges: bool = True
    ) -> SlideTensors:
        """Return the tensors of a slide; `edges` false leaves every spot alone."""
        graph = slide.graph
        kept = slice(None) if edges else slice(0)
        cosine = graph.cosine(slide.features)[kept]
        facts = edge_facts(*(torch.from_numpy(v).float() for v in (graph.distance[kept], cosine)))
        target, source = (torch.from_numpy(v[kept]) for v in (graph.target, graph.source))
        return cls(features, mean, target, source, facts)


class SpotVelocity(nn.Module):
    """Velocity of all spots of a slide.

    Parameters
    ----------
    genes, features : G and d.
    hidden, heads, layers, dropout : of the graph encoder; the network on top has two layers.
    residual_sd : (G,) sd of the fitted mean's residuals, in units of the train sd.
    joint : the network sees the noisy expression of the neighbours, too, as FLAG does.

    Attributes
    ----------
    uses_network : False if training wasn't clearly better than the start on val.
    """

    def __init__(
        self,
        genes: int,
        features: int,
        hidden: int,
        heads: int,
        layers: int,
        dropout: float,
        residual_sd: Tensor,
        joint: bool = False,
    ) -> None:
        super().__init__()
        self.path = Path()
        self.joint, self.uses_network = joint, True
        self.encoder = GraphEncoder(features, hidden, heads, layers, dropout)
        self.time = TimeEmbedder(hidden)
        self.noisy = nn.Linear(genes * (2 if joint else 1), hidden)
        self.mix = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self.out = nn.Linear(2 * hidden, genes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.theta = nn.Parameter(residual_sd.clamp(0.05, 2.0).log())

    @property
    def sd(self) -> Tensor:
        """Residual sd (G,) of each gene."""
        return self.theta.exp()

    def encode(self, slide: SlideTensors) -> Tensor:
        """Return the condition (n, hidden) of a slide; once for all draws and steps."""
        return self.encoder(slide.features, slide.target, slide.source, slide.edges)

    def conditional_mean(
        self, x: Tensor, t: Tensor, slide: SlideTensors, condition: Tensor
    ) -> Tensor:
        """Return F (n, G) at noisy expression x (n, G) and time t ()."""
        if not self.uses_network:
            return slide.mean
        seen = x
        if self.joint:
            degree = torch.bincount(slide.target, minlength=len(x)).clamp(min=1)
            near = torch.zeros_like(x).index_add(0, slide.target, x[slide.source])
            seen = torch.cat([x, near / degree[:, None]], dim=-1)
        hidden = condition + self.noisy(seen) + self.time(t.reshape(1))
        return slide.mean + self.out(self.mix(F.gelu(hidden)))

    def forward(self, x: Tensor, t: Tensor, slide: SlideTensors, condition: Tensor) -> Tensor:
        """Return the velocity (n, G)."""
        k, c = self.path.gaussian(t, self.sd)
        return k * x + c * self.conditional_mean(x, t, slide, condition)
