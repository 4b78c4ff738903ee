"""HE2RNA: a score per cluster and gene, and the mean of the highest scores.

Schmauch et al., Nature Communications 2020, doi:10.1038/s41467-020-17678-4, with the settings that
the authors published for their model of all genes on 100 supertiles: two hidden layers of 1,024,
ReLU, dropout 0.25, k from 1, 2, 5, 10, 20, 50, 100, learning rate 3e-4, batches of 16.

Differences here: clusters of features instead of spatial clusters; features and genes are
standardised by the train part, so the last bias starts near 0 where the authors set it to the mean
profile; k above the number of clusters counts once, as that number; padding is recognised by its
size and never ranked (in the original, a tile without a positive feature scores 0, which outranks
negative scores).
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from slide2rna.core.settings import He2rnaSettings
from slide2rna.models import pooling


class HE2RNA(nn.Module):
    """One MLP for all clusters, then the mean of each gene's k highest scores.

    In training, k is drawn from the list at each step. Otherwise the prediction is the mean over
    the list. The order of clusters doesn't matter.

    Parameters
    ----------
    features, clusters, genes
        d, K and G.
    settings
        Section `baselines.he2rna` of the config: layers, ks, dropout.
    """

    def __init__(self, features: int, clusters: int, genes: int, settings: He2rnaSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([features, *settings["layers"]]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(settings["dropout"])]
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear([features, *settings["layers"]][-1], genes)
        self.ks = pooling.clip_ks(settings["ks"], clusters)

    def forward(self, means: Tensor, sizes: Tensor) -> Tensor:
        """Map bags (B, K, d) and sizes (B, K) to standardised expression (B, G)."""
        means, mask = pooling.present(means, sizes)
        ks = [pooling.draw_k(self.ks)] if self.training else self.ks
        return pooling.top_mean(self.head(self.hidden(means)), mask, ks)
