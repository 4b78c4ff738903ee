"""Regression networks: one profile per slide, with the statistics of the train part."""

from __future__ import annotations

from torch import Tensor, nn

from slide2rna.core.config import Settings
from slide2rna.flow.feature_scale import FeatureScale, FeatureScaling
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.models import registry


class Regressor(GeneScale, FeatureScale):
    """A network of `registry.NETWORKS` from standardised bags to standardised profiles.

    Parameters
    ----------
    name
        The network's name in the registry.
    features, clusters, genes
        d, K and G.
    settings
        The network's object of the section `baselines`.
    scale
        Arguments of `FeatureScale.register_features`; the defaults if None.
    """

    recompute = False

    def __init__(
        self,
        name: str,
        features: int,
        clusters: int,
        genes: int,
        settings: Settings,
        scale: FeatureScaling | None = None,
    ) -> None:
        super().__init__()
        self.network: nn.Module = registry.load(registry.NETWORKS[name])(
            features, clusters, genes, settings
        )
        self.register_features(features, **(scale or {}))
        self.register_genes(genes)

    def forward(self, means: Tensor, sizes: Tensor) -> Tensor:
        """Map bags (B, K, d) and sizes (B, K) to z (B, G), 0 for genes without train variance."""
        features = self.scale_features(means)
        # Standardising makes padding nonzero.
        features = features * (sizes > 0)[..., None]
        return self.network(features, sizes) * self.active

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Group parameters by treatment: `decay` (matrices), `plain` (biases, norms, tokens)."""
        groups: dict[str, list[nn.Parameter]] = {"decay": [], "plain": []}
        for name, parameter in self.named_parameters():
            matrix = parameter.ndim >= 2 and name.endswith("weight")
            groups["decay" if matrix else "plain"].append(parameter)
        return groups


# Networks that score every cluster need 40 MB per slide at 100 clusters and 20,820 genes.
REGRESSION_ROWS = 16
