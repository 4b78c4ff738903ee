"""RNA-FM: the velocity of an expression profile, given the time and a slide's clusters.

Sections 3.2 and 3.3 and appendix B of the paper. Inside, pathways are in the order of
`PaddedSets.order`; genes are in the order of the caller.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from slide2rna.core.settings import ModelSettings
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.flow.layers import Block, ClusterTransformer, PathwayGraph, TimeEmbedder
from slide2rna.flow.padded_sets import PaddedSets
from slide2rna.flow.path import Path
from slide2rna.flow.tokens import GeneEmbedder, GeneHeads
from slide2rna.pathways.membership import Pathways

SD_RANGE = (0.05, 2.0)
DECAYED = {"weight", "first", "second", "out"}


class ClusterEncoder(nn.Module):
    """Cluster means and sizes -> one vector per slide, the image's part of the condition.

    With `weighted`, clusters are a weighted set. Log sizes are added to the attention logits, so
    that attention over clusters equals attention over tiles that each carry their cluster's mean,
    and pooling is weighted by size. Otherwise as published: index embedding and plain mean. In both
    cases padding (size 0) is masked in attention and left out of the pooling.

    If d isn't a multiple of `heads`, a linear layer first projects to the next multiple.
    """

    def __init__(
        self, features: int, clusters: int, hidden: int, heads: int, layers: int, weighted: bool
    ) -> None:
        super().__init__()
        self.weighted = weighted
        width = -(-features // heads) * heads if layers else features
        self.project = nn.Linear(features, width) if width != features else None
        self.cluster_index_emb = (
            None if weighted else nn.Parameter(0.02 * torch.randn(clusters, width))
        )
        self.transformer = ClusterTransformer(width, heads, 4 * hidden, layers)
        self.image_embedder = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, hidden)
        )
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        self.feature_mean: Tensor
        self.feature_scale: Tensor

    def standardise(self, means: Tensor) -> Tensor:
        return (means - self.feature_mean) / self.feature_scale

    def forward(self, means: Tensor, sizes: Tensor) -> Tensor:
        y = self.standardise(means)
        if self.project is not None:
            y = self.project(y)
        if self.cluster_index_emb is not None:
            y = y + self.cluster_index_emb
        present = sizes > 0
        share = sizes if self.weighted else present.to(y.dtype)
        share = share / share.sum(dim=1, keepdim=True)
        mask = (share.log() if self.weighted else present)[:, None, None, :]
        y = self.transformer(y, mask)
        return self.image_embedder((y * share[..., None]).sum(dim=1))


class RNAFM(GeneScale):
    """The velocity network.

    Parameters
    ----------
    pathways
        Gene sets over the G genes.
    features, clusters
        d and K of the bags.
    settings
        Section `model` of the config.
    interpolant
        The path that the Gaussian skip assumes (train.interpolant).

    Attributes
    ----------
    recompute
        Store no activations inside the blocks; recompute them in the backward pass.

    Notes
    -----
    `skip: gaussian`. A token of h numbers can't carry the noise of the thousands of genes that it
    represents, so -x0 can't be undone through tokens, and draws come out too wide. Here each gene
    has a velocity in closed form, v = k_g(t) x_t + c_g(t) F_g(x_t, t, y), with k and c from
    `Path.gaussian` at a learned residual sd s_g = exp(theta_g). If x1 given y is N(m(y), s^2), the
    exact velocity has F = m(y): the network must learn the conditional mean, without noise and
    bounded for all t. At theta = 0 and F = 0 (the start) the draws are N(0, 1), the marginal
    distribution of the standardised training genes, and x0 + v(x0, 0) = F for the linear path.

    `skip: ridge` adds a linear function of the bag's mean to F. Training initialises it with a
    ridge (training/ridge_start.py): with a few hundred slides a network alone learns less of m(y)
    than a ridge does.

    `factors`. The published flow starts from x0 ~ N(0, I), and all co-expression of the draws must
    be learned. Here x0 ~ N(0, C) with the correlation C of the ridge's residuals (low rank plus
    diagonal, `color`). With S = diag(s) the Gaussian velocity transports it to N(m, S C S), so
    draws have the residuals' co-expression from the start, exactly in any number of steps. Each
    gene of x0 stays N(0, 1), x0 stays independent of x1 and y, and Eq. 10 to 14 still hold.
    """

    def __init__(
        self,
        pathways: Pathways,
        features: int,
        clusters: int,
        settings: ModelSettings,
        interpolant: str = "linear",
    ) -> None:
        super().__init__()
        h, heads = settings["hidden"], settings["heads"]
        self.path = Path(interpolant)
        self.recompute = False
        self.pathways = pathways
        layout = PaddedSets(pathways.index, pathways.n_genes)
        self.layout = layout
        self.gene_embedder = GeneEmbedder(layout, pathways.background, h)
        self.pathway_graph: PathwayGraph | None = None
        if settings["graph"]:
            adjacency = torch.from_numpy(pathways.adjacency[layout.order][:, layout.order])
            self.pathway_graph = PathwayGraph(
                h, settings["graph_heads"], settings["mlp_ratio"], settings["dropout"], adjacency
            )
        self.t_embedder = TimeEmbedder(h)
        self.condition = ClusterEncoder(
            features,
            clusters,
            h,
            heads,
            settings["cluster_layers"],
            settings["cluster_weights"],
        )
        self.null = nn.Parameter(0.02 * torch.randn(h))
        self.blocks = nn.ModuleList(
            Block(h, heads, settings["mlp_ratio"]) for _ in range(settings["blocks"])
        )
        self.final_layer = GeneHeads(layout, pathways.background, h)
        self.theta: nn.Parameter | None = None
        if settings["skip"] != "none":
            self.theta = nn.Parameter(torch.zeros(pathways.n_genes))
        self.linear: nn.Linear | None = None
        self.loadings: Tensor
        factors = settings["factors"] if settings["skip"] == "ridge" else 0
        self.register_buffer("loadings", torch.zeros(pathways.n_genes, factors))
        if settings["skip"] == "ridge":
            self.linear = nn.Linear(features, pathways.n_genes)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
        self.register_genes(pathways.n_genes)

    @property
    def noise_width(self) -> int:
        """Return the width of white noise per row: G plus the number of shared factors."""
        return self.pathways.n_genes + self.loadings.shape[1]

    def color(self, white: Tensor) -> Tensor:
        """Colour white noise (..., noise_width) into the start x0 (..., G), each gene N(0, 1).

        x0 = sqrt(1 - |l_g|^2) e_g + l_g' f, with loadings l_g and shared factors f.
        """
        if not self.loadings.shape[1]:
            return white
        independent, shared = white.split([len(self.loadings), self.loadings.shape[1]], dim=-1)
        share = self.loadings.square().sum(dim=1)
        return (1 - share).sqrt() * independent + shared @ self.loadings.T

    def residual_sd(self) -> Tensor:
        """Return the sd (G,) of the Gaussian part; ones without the skip."""
        if self.theta is None:
            return torch.ones_like(self.gene_sd)
        return self.theta.exp().clamp(*SD_RANGE)

    def encode_image(self, means: Tensor, sizes: Tensor) -> Tensor:
        """Encode bags (S, K, d) and sizes (S, K), once per slide, not per draw or step.

        Return (S, h), or (S, h + G) with the linear mean: h numbers for the blocks, then a mean per
        gene.
        """
        encoded = self.condition(means, sizes)
        if self.linear is None:
            return encoded
        share = sizes / sizes.sum(dim=1, keepdim=True)
        mean = (self.condition.standardise(means) * share[..., None]).sum(dim=1)
        return torch.cat([encoded, self.linear(mean)], dim=1)

    def velocity(self, x: Tensor, t: Tensor, c_image: Tensor, guidance: float = 1.0) -> Tensor:
        """Return the velocity in standardised units, guided (Eq. 14) if `guidance` isn't 1.

        Tokens and graph don't depend on the condition, and heads are affine. So the null branch of
        a guided evaluation costs only the blocks.

        Parameters
        ----------
        x
            (S * D, G): D draws of each of S slides, slide by slide. Training has D = 1.
        t
            (S,) or () time.
        c_image
            (S, h) from `encode_image`, or `null` rows.
        guidance
            CFG scale s.

        Returns
        -------
        Tensor
            (S * D, G).
        """
        time = self.t_embedder(t.reshape(-1))
        h = time.shape[1]
        tokens, background = self.gene_embedder(x)
        if self.pathway_graph is not None:
            tokens = self.pathway_graph(tokens)
        modulated = self._apply_blocks(tokens, background, time + c_image[:, :h])
        if guidance != 1:
            null = self._apply_blocks(tokens, background, time + self.null)
            modulated = [torch.lerp(n, m, guidance) for n, m in zip(null, modulated, strict=True)]
        out = self.final_layer(modulated)
        if self.theta is None:
            return out
        k, gain = self.path.gaussian(t.expand(len(c_image))[:, None], self.residual_sd())
        grouped = (len(c_image), -1, x.shape[1])
        mean = out.reshape(grouped)
        if self.linear is not None:
            mean = mean + guidance * c_image[:, None, h:]
        skip = k.unsqueeze(1) * x.view(grouped) + gain.unsqueeze(1) * mean
        return skip.view(x.shape)

    def _apply_blocks(self, tokens: Tensor, background: Tensor | None, c: Tensor) -> list[Tensor]:
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, c, use_reentrant=False)
            else:
                tokens = block(tokens, c)
        return self.final_layer.modulate(tokens, background, c)

    forward = velocity

    def null_condition(self, rows: int) -> Tensor:
        """Return the learned null condition (rows, h) in every row; its linear mean is 0."""
        null: Tensor = self.null
        if self.linear is not None:
            null = F.pad(null, (0, self.pathways.n_genes))
        return null.expand(rows, -1)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Group parameters by treatment: `decay` (matrices), `plain` (biases, embeddings), `sd`."""
        groups: dict[str, list[nn.Parameter]] = {"decay": [], "plain": [], "sd": []}
        for name, parameter in self.named_parameters():
            kind = [part for part in name.split(".") if not part.isdigit()][-1]
            matrix = kind in DECAYED and parameter.ndim >= 2
            groups["sd" if kind == "theta" else "decay" if matrix else "plain"].append(parameter)
        return groups
