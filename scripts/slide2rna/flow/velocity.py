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
from slide2rna.flow.cluster_encoder import ClusterEncoder
from slide2rna.flow.conditional_mean import ConditionalMean
from slide2rna.flow.feature_scale import FeatureScaling
from slide2rna.flow.fitted_shape import NO_FIT, FittedShape
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.flow.layers import Block, PathwayGraph, TimeEmbedder
from slide2rna.flow.mixture_head import MixtureHead
from slide2rna.flow.padded_sets import PaddedSets
from slide2rna.flow.path import Path
from slide2rna.flow.tokens import GeneEmbedder, GeneHeads
from slide2rna.pathways.membership import Pathways

SD_RANGE = (0.05, 2.0)
DECAYED = {"weight", "first", "second", "out"}


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
    scale
        Arguments of `FeatureScale.register_features`; the defaults if None.
    shape
        Sizes that the fit determines; no head and z-scores if None.

    Attributes
    ----------
    uses_network
        False if no epoch of the flow's training was clearly better on val than the start: its
        layers, whose output is 0 there, are then left out, and draws cost next to nothing.
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

    `skip: ridge` adds a conditional mean to F (`ConditionalMean`). It is fitted before the flow
    (training/start.py) and frozen, so that the flow learns only the residuals' law: with a few
    hundred slides it alone learns less of m(y) than a ridge does. With normal scores as targets,
    the mean's other fit, in the genes' own scale, has a share `own_weight` in it. That fit is a
    `MixtureHead` where val says so; otherwise the head stays for maps.

    `factors`. The published flow starts from x0 ~ N(0, I), and all co-expression of the draws must
    be learned. Here x0 ~ N(0, C) with the correlation C of the mean's residuals (low rank plus
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
        scale: FeatureScaling | None = None,
        shape: FittedShape | None = None,
    ) -> None:
        super().__init__()
        h, heads = settings["hidden"], settings["heads"]
        self.path = Path(interpolant)
        self.recompute = False
        self.uses_network = True
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
            scale,
        )
        self.null = nn.Parameter(0.02 * torch.randn(h))
        self.blocks = nn.ModuleList(
            Block(h, heads, settings["mlp_ratio"]) for _ in range(settings["blocks"])
        )
        self.final_layer = GeneHeads(layout, pathways.background, h)
        self.theta: nn.Parameter | None = None
        if settings["skip"] != "none":
            self.theta = nn.Parameter(torch.zeros(pathways.n_genes))
        shape = NO_FIT | (shape or NO_FIT)
        genes, knots = pathways.n_genes, shape["gene_knots"]
        self.mean: ConditionalMean | None = None
        self.own_mean: ConditionalMean | None = None
        self.loadings: Tensor
        self.own_weight: Tensor
        factors = settings["factors"] if settings["skip"] == "ridge" else 0
        self.register_buffer("loadings", torch.zeros(pathways.n_genes, factors))
        if settings["skip"] == "ridge":
            self.mean = ConditionalMean(features, clusters, genes, shape["head_rank"])
            self.mean.requires_grad_(False)
            if knots:
                self.own_mean = ConditionalMean(features, clusters, genes, shape["own_head_rank"])
                self.own_mean.requires_grad_(False)
                self.register_buffer("own_weight", torch.zeros(()))
        self.register_genes(genes, knots)
        self.mixture: MixtureHead | None = None
        self.mixture_is_mean = shape["mixture_is_mean"]
        if shape["mixture_rank"]:
            self.mixture = MixtureHead(features, genes, shape["mixture_rank"])
            self.mixture.requires_grad_(False)

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

        Return (S, h), or (S, h + G) with `skip: ridge`: h numbers for the blocks, then a mean per
        gene.
        """
        if not self.uses_network:
            encoded = means.new_zeros(len(means), self.null.numel())
        else:
            encoded = self.condition(means, sizes)
        if self.mean is None:
            return encoded
        return torch.cat([encoded, self.fitted_mean(means, sizes)], dim=1)

    @torch.no_grad()
    def fitted_mean(self, means: Tensor, sizes: Tensor) -> Tensor:
        """Return the mean of each gene's target (S, G) that was fitted before the flow."""
        assert self.mean is not None
        self.mean.eval()
        # In full precision, as it was fitted: bfloat16 is too coarse for a table of means.
        with torch.autocast(means.device.type, enabled=False):
            features = self.condition.scale_features(means)
            mean: Tensor = self.mean(features, sizes)
            if self.own_mean is None and not self.mixture_is_mean:
                return mean
            if self.mixture is not None and self.mixture_is_mean:
                expression = self.mixture.eval()(features, sizes)
            else:
                assert self.own_mean is not None
                expression = self.gene_mean + self.gene_sd * self.own_mean.eval()(features, sizes)
            if self.own_mean is None:
                return self.standardise(expression)
            return self.blend_means(mean, expression, self.own_weight)

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
        out = torch.zeros_like(x)
        if self.uses_network:
            out = self._network(x, t, c_image, guidance)
        if self.theta is None:
            return out
        k, gain = self.path.gaussian(t.expand(len(c_image))[:, None], self.residual_sd())
        grouped = (len(c_image), -1, x.shape[1])
        mean = out.reshape(grouped)
        if self.mean is not None:
            mean = mean + guidance * c_image[:, None, self.null.numel() :]
        skip = k.unsqueeze(1) * x.view(grouped) + gain.unsqueeze(1) * mean
        return skip.view(x.shape)

    def _network(self, x: Tensor, t: Tensor, c_image: Tensor, guidance: float) -> Tensor:
        """Return the tokens' output: the published model's velocity, otherwise a part of F."""
        time = self.t_embedder(t.reshape(-1))
        tokens, background = self.gene_embedder(x)
        if self.pathway_graph is not None:
            tokens = self.pathway_graph(tokens)
        image = c_image[:, : self.null.numel()]
        modulated = self._apply_blocks(tokens, background, time + image)
        if guidance != 1:
            null = self._apply_blocks(tokens, background, time + self.null)
            modulated = [torch.lerp(n, m, guidance) for n, m in zip(null, modulated, strict=True)]
        out: Tensor = self.final_layer(modulated)
        return out

    def _apply_blocks(self, tokens: Tensor, background: Tensor | None, c: Tensor) -> list[Tensor]:
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, c, use_reentrant=False)
            else:
                tokens = block(tokens, c)
        return self.final_layer.modulate(tokens, background, c)

    forward = velocity

    def null_condition(self, rows: int) -> Tensor:
        """Return the learned null condition (rows, h) in every row; its fitted mean is 0."""
        null: Tensor = self.null
        if self.mean is not None:
            null = F.pad(null, (0, self.pathways.n_genes))
        return null.expand(rows, -1)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Group parameters by treatment: `decay` (matrices), `plain` (biases, embeddings), `sd`."""
        groups: dict[str, list[nn.Parameter]] = {"decay": [], "plain": [], "sd": []}
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            kind = [part for part in name.split(".") if not part.isdigit()][-1]
            matrix = kind in DECAYED and parameter.ndim >= 2
            groups["sd" if kind == "theta" else "decay" if matrix else "plain"].append(parameter)
        return groups
