"""Resampled bags in training: each time a train slide is read, one of its bags is used.

A slide counts once per epoch, whatever the number of its bags, so an epoch costs the same.
Networks use them: the flow, the pooled head of its mean, the regressions. The ridge doesn't: it
reads only the mean of a slide's tiles, which hardly differs between random shares of many tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slide2rna.features import resample_file

if TYPE_CHECKING:
    from slide2rna.flow.feature_scale import FeatureScale


@dataclass(frozen=True)
class ResampledBags:
    """Further bags of slides: means (N, n, K, d), sizes (N, n, K)."""

    means: Tensor
    sizes: Tensor

    @property
    def number(self) -> int:
        """Bags of a slide, n."""
        return int(self.means.shape[1])

    def to(self, device: torch.device) -> ResampledBags:
        return ResampledBags(self.means.to(device), self.sizes.to(device))

    def scaled(self, scale: FeatureScale) -> ResampledBags:
        """Return the bags with standardised features, made slide by slide to save memory."""
        features = torch.empty_like(self.means)
        for row, means in enumerate(self.means):
            features[row] = scale.scale_features(means)
        return ResampledBags(features, self.sizes)

    def draw(
        self, rows: Tensor, means: Tensor, sizes: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw a bag of each slide: the bag of all tiles and each resampled bag are equally likely.

        Parameters
        ----------
        rows : (B,) slides.
        means, sizes : (B, K, d), (B, K) their whole bags.
        generator : of the draw; the global stream by default.
        """
        size = (len(rows),)
        drawn = torch.randint(self.number + 1, size, generator=generator, device=rows.device)
        further, index = drawn > 0, (drawn - 1).clamp(min=0)
        return (
            torch.where(further[:, None, None], self.means[rows, index], means),
            torch.where(further[:, None], self.sizes[rows, index], sizes),
        )


def read(path: Path, slide_ids: list[str], shape: tuple[int, int]) -> ResampledBags:
    """Read the further bags of these slides, each of shape (K, d); errors as `resample_file`."""
    means, sizes = resample_file.read(path, slide_ids, shape)
    return ResampledBags(torch.from_numpy(means), torch.from_numpy(sizes))
