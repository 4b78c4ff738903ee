"""Networks of the leak audit: trained as in the workflow, on any parts, and never saved."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slide2rna.core import config, devices
from slide2rna.core.config import Settings
from slide2rna.core.errors import ConfigError
from slide2rna.data import fold_rows
from slide2rna.data.patients import Part
from slide2rna.flow.velocity import RNAFM
from slide2rna.models.base import FittedModel
from slide2rna.pathways import membership
from slide2rna.pathways.membership import Pathways
from slide2rna.sampling import draw
from slide2rna.training.fit import fit_network
from slide2rna.training.loop import Network
from slide2rna.training.task import FoldTask, PartSlides

# As `sample.mean_pairs` by default: antithetic noise pairs of the flow's one-step mean.
PAIRS = 4


@dataclass(frozen=True)
class AuditNetworks:
    """Trainer of networks by name.

    Attributes
    ----------
    settings : per network, from `config.parse_training`.
    genes : names, in the order of the parts' truth.
    sets : gene sets; only the flow needs them.
    device : where to train.
    """

    settings: dict[str, dict[str, Any]]
    genes: list[str]
    sets: Pathways | None
    device: torch.device

    def fit(self, name: str, train: Part, pick: Part, seed: int, fold: int) -> FittedModel:
        """Train on `train`; `pick` stops the training and selects the epoch."""
        task = FoldTask(
            _part_slides(train),
            _part_slides(pick),
            self.genes,
            self.sets,
            fold,
            seed,
            train.bags.scale,
            train.bags.missing,
        )
        with tempfile.TemporaryDirectory() as folder:
            model = fit_network(task, self.settings[name], Path(folder), self.device, {})
        model = model.to(self.device).eval()

        def predict(part: Part) -> NDArray[np.float32]:
            rows = _predict_points(model, part, seed, fold, self.device)
            return np.concatenate([row.cpu().numpy() for row in rows]).astype(np.float32)

        return FittedModel("trained with the settings of the config", predict)


def load(
    settings: dict[str, dict[str, Settings]],
    expression: Path,
    sets: Path | None,
    device: str,
    threads: int,
) -> AuditNetworks:
    """Return a trainer of these networks.

    Parameters
    ----------
    settings
        Per network its sections `model` (except for the flow, its object of `baselines`) and
        `train`; missing keys take their defaults.
    sets
        The flow's gene sets.

    Raises
    ------
    ConfigError
        A wrong setting, or the flow without gene sets.
    """
    torch.set_num_threads(threads)
    devices.keep_freed_memory()
    genes = fold_rows.gene_names(expression)
    if "flow" in settings and sets is None:
        raise ConfigError("--pathways", "the flow needs gene sets", "give a table of gene sets")
    trained = {
        name: config.parse_training(
            name, *(json.dumps(sections.get(key, {})) for key in ("model", "train"))
        )
        for name, sections in settings.items()
    }
    pathways = membership.read_pathways(sets, genes) if sets is not None else None
    return AuditNetworks(trained, genes, pathways, devices.choose_device(device))


def _part_slides(part: Part) -> PartSlides:
    samples = [part.samples[row] for row in part.pool.argmax(axis=0)]
    rows = part.bag_rows
    bags = part.bags.means[rows], part.bags.sizes[rows]
    return PartSlides(*bags, part.slide_truth(), samples, part.units)


@torch.inference_mode()
def _predict_points(
    model: Network, part: Part, seed: int, fold: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield the points (1, G) of a part's slides in log2(x+1), a slide at a time."""
    for row, slide in zip(part.bag_rows, part.slide_ids, strict=True):
        means, sizes = (
            torch.from_numpy(array[row : row + 1]).to(device)
            for array in (part.bags.means, part.bags.sizes)
        )
        if isinstance(model, RNAFM):
            white = draw.noise(seed, fold, slide, PAIRS, model.noise_width, "mean")
            mean, _ = draw.point(model, model.encode_image(means, sizes), white.to(device))
            yield mean[None]
        else:
            yield model.restore(model(means, sizes))
