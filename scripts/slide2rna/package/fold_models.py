"""Fold models of a run, each loaded on first access."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from slide2rna.core.errors import StageError, WeightsError
from slide2rna.core.files import sha256sum
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.models.regressor import Regressor
from slide2rna.storage import tensors
from slide2rna.studies.shift import reference
from slide2rna.studies.shift.reference import TrainingReference

# Up to this total size all fold models stay in memory; above it, one at a time.
CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class FoldModel:
    """A fold's model, and the reference for out-of-distribution tests (None for a bare model)."""

    number: int
    model: RNAFM | Regressor
    meta: dict[str, Any]
    reference: TrainingReference | None


class FoldModels(Sequence[FoldModel]):
    """Fold models of a run, each loaded on first access.

    Weights of a packaged model are compared with the digests stored with its tables. Large
    models aren't cached: a loop drops one (`del`) before it loads the next, to hold one in memory.
    """

    def __init__(
        self,
        folder: Path,
        numbers: Sequence[int],
        device: torch.device,
        digests: dict[str, str] | None = None,
        genes: list[str] | None = None,
        features: int | None = None,
    ) -> None:
        self.folder, self.numbers, self.device = folder, list(numbers), device
        files = [path / "model.safetensors" for path in self.folders]
        size = sum(path.stat().st_size for path in files if path.is_file())
        self._use_cache = size <= CACHE_BYTES
        self._cache: dict[int, FoldModel] = {}
        self._unchecked_digests = dict(digests or {})
        self._genes, self._features = genes, features

    @property
    def folders(self) -> list[Path]:
        return [self.folder / f"fold-{number}" for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> FoldModel: ...
    @overload
    def __getitem__(self, index: slice) -> list[FoldModel]: ...
    def __getitem__(self, index: int | slice) -> FoldModel | list[FoldModel]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = self.numbers[index]
        if number in self._cache:
            return self._cache[number]
        self._check_digest(number)
        model_folder = self.folder / f"fold-{number}"
        model, meta = checkpoint.load_model(model_folder, self.device)
        ours = (self._genes, self._features)
        if self._genes is not None and (meta["genes"], meta["features"]) != ours:
            cause = "its genes or features are another model's"
            raise StageError(model_folder, cause, "copy the complete folder")
        path = self._reference_path(number)
        fold_model = FoldModel(
            number, model, meta, reference.load(path) if path.is_file() else None
        )
        if self._use_cache:
            self._cache[number] = fold_model
        return fold_model

    def _reference_path(self, number: int) -> Path:
        return self.folder / "familiar" / f"fold-{number}.safetensors"

    def _check_digest(self, number: int) -> None:
        name = f"fold-{number}/model.safetensors"
        path = self.folder / name
        if name in self._unchecked_digests and path.is_file():
            if sha256sum(path) != self._unchecked_digests[name]:
                cause = (
                    "these weights differ from those that its intervals and tables were made with"
                )
                raise StageError(path, cause, "package the run again, or copy the complete folder")
            del self._unchecked_digests[name]

    def check_references(self) -> None:
        """Check that every fold has a complete training reference.

        Raises
        ------
        WeightsError
            A file is missing or broken.
        """
        for path in map(self._reference_path, self.numbers):
            try:
                with tensors.open_checked(path) as file:
                    if "about" in (file.metadata() or {}):
                        continue
                cause = "its digest differs"
            except (OSError, SafetensorError) as error:
                cause = f"the training reference for new slides is missing or broken ({error})"
            raise WeightsError(path, cause, "copy the complete folder")

    def __iter__(self) -> Iterator[FoldModel]:
        return (self[index] for index in range(len(self)))


def train_statistics(
    folders: Sequence[Path],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sd (G,) of the train samples in log2 units, averaged over fold models."""
    moments = []
    for folder in folders:
        path = folder / "model.safetensors"
        try:
            with tensors.open_checked(path) as file:
                moments.append([file.get_tensor(name) for name in ("gene_mean", "gene_sd")])
        except (OSError, SafetensorError) as error:
            raise WeightsError(path, f"not readable ({error})", "copy the model again") from error
    mean, sd = np.mean(np.array(moments, dtype=np.float64), axis=0)
    return mean, sd


def fold_numbers(folder: Path) -> list[int]:
    """Return the folds that have a model in a folder."""
    names = [path.parent.name.removeprefix("fold-") for path in folder.glob("fold-*/model.json")]
    return sorted(int(name) for name in names if name.isdigit())
