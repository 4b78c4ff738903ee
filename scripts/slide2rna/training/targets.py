"""Training targets: expression in the units of the network, with ties spread by sample."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.seeds import rng_for
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.training.task import PartSlides


def targets(scale: GeneScale, slides: PartSlides, seed: int) -> Tensor:
    """Return the targets (N, G) of a part's slides.

    In normal scores, tied values (zeros above all) are spread at random over their band of levels.
    The stream is the sample's, so that its slides have one target.
    """
    values = torch.from_numpy(slides.values)
    if not scale.uses_normal_scores:
        return scale.standardise(values)
    genes = values.shape[1]
    position = np.empty(values.shape, dtype=np.float32)
    for row, sample in enumerate(slides.sample_ids):
        position[row] = rng_for(seed, "ties", sample).random(genes, dtype=np.float32)
    return scale.standardise(values, torch.from_numpy(position))
