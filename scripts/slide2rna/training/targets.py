"""Training targets: expression in the units of the network, with ties spread by sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.seeds import rng_for
from slide2rna.core.types import Array
from slide2rna.data.statistics import gene_statistics
from slide2rna.flow import quantile_map
from slide2rna.flow.gene_scale import GeneScale


def fit_gene_scale(values: Array, sample_ids: Sequence[str], normal_scores: bool) -> GeneScale:
    """Fit the scale of each gene on the samples of slides with log2(x+1) values (N, G)."""
    mean, sd = gene_statistics(values, sample_ids)
    scale = GeneScale()
    knots = None
    if normal_scores:
        _, first = np.unique(np.array(sample_ids), return_index=True)
        knots = quantile_map.quantile_knots(values[first])
    scale.register_genes(len(mean), 0 if knots is None else len(knots))
    scale.gene_mean.copy_(torch.from_numpy(mean))
    scale.gene_sd.copy_(torch.from_numpy(sd))
    if knots is not None:
        scale.gene_knots.copy_(torch.from_numpy(knots))
    return scale


def targets(scale: GeneScale, values: Array, sample_ids: Sequence[str], seed: int) -> Tensor:
    """Return the targets (N, G) of slides with log2(x+1) values (N, G).

    In normal scores, tied values (zeros above all) are spread at random over their band of levels.
    The stream is the sample's, so that its slides have one target.
    """
    expression = torch.from_numpy(values)
    if not scale.uses_normal_scores:
        return scale.standardise(expression)
    genes = values.shape[1]
    position = np.empty(values.shape, dtype=np.float32)
    for row, sample in enumerate(sample_ids):
        position[row] = rng_for(seed, "ties", sample).random(genes, dtype=np.float32)
    return scale.standardise(expression, torch.from_numpy(position))
