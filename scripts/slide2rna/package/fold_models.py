"""The fold models of a run, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from slide2rna.core.errors import StageError, WeightsError
from slide2rna.core.files import sha256sum
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.models.regressor import Regressor
from slide2rna.studies.shift import reference
from slide2rna.studies.shift.reference import TrainingReference

# Fold models stay in memory while together they are smaller; otherwise one is there at a time.
KEEP_BYTES = 2 * 2**30


@dataclass(frozen=True)
class FoldModel:
    """A fold's model, and what judges a slide by its train part (None where that isn't known)."""

    number: int
    model: RNAFM | Regressor
    meta: dict[str, Any]
    familiar: TrainingReference | None


class FoldModels(Sequence[FoldModel]):
    """The fold models, each read when it is asked for.

    Those of a packaged model are compared with the digests that its tables were made for. Large
    ones aren't kept; whoever goes through them drops one (`del`) before asking for the next,
    or two are in memory.
    """

    def __init__(
        self,
        folder: Path,
        numbers: Sequence[int],
        device: torch.device,
        digests: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.numbers, self.device = folder, list(numbers), device
        files = [path / "model.safetensors" for path in self.folders]
        self._keep = sum(path.stat().st_size for path in files if path.is_file()) <= KEEP_BYTES
        self._kept: dict[int, FoldModel] = {}
        self._digests = dict(digests or {})  # of those that weren't compared yet

    @property
    def folders(self) -> list[Path]:
        return [self.folder / f"fold-{number}" for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> FoldModel: ...
    @overload
    def __getitem__(self, place: slice) -> list[FoldModel]: ...
    def __getitem__(self, place: int | slice) -> FoldModel | list[FoldModel]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        number = self.numbers[place]
        if number in self._kept:
            return self._kept[number]
        self._compare(number)
        model, meta = checkpoint.load_model(self.folder / f"fold-{number}", self.device)
        path = self._familiar(number)
        found = FoldModel(number, model, meta, reference.load(path) if path.is_file() else None)
        if self._keep:
            self._kept[number] = found
        return found

    def _familiar(self, number: int) -> Path:
        return self.folder / "familiar" / f"fold-{number}.safetensors"

    def _compare(self, number: int) -> None:
        name = f"fold-{number}"
        path = self.folder / name / "model.safetensors"
        if name in self._digests and path.is_file():
            if sha256sum(path) != self._digests[name]:
                cause = "these weights aren't those that its intervals and tables were made for"
                raise StageError(path, cause, "package the run again, or copy the whole folder")
            del self._digests[name]

    def check_familiar(self) -> None:
        """See that what judges slides is there for every fold, and whole.

        Raises
        ------
        WeightsError
            A file is missing or broken.
        """
        for path in map(self._familiar, self.numbers):
            try:
                with safe_open(path, "numpy") as file:
                    if "about" in (file.metadata() or {}):
                        continue
                cause = "it is another file"
            except (OSError, SafetensorError) as error:
                cause = f"what judges slides is missing or broken ({error})"
            raise WeightsError(path, cause, "copy the whole folder")

    def __iter__(self) -> Iterator[FoldModel]:
        return (self[place] for place in range(len(self)))


def train_statistics(
    folders: Sequence[Path],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and sd (G,) of the train samples in log2 units, both averaged over the fold models."""
    found = []
    for folder in folders:
        with safe_open(folder / "model.safetensors", "numpy") as file:
            found.append([file.get_tensor(name) for name in ("gene_mean", "gene_sd")])
    mean, sd = np.mean(np.array(found, dtype=np.float64), axis=0)
    return mean, sd


def fold_numbers(folder: Path) -> list[int]:
    """The folds that a folder has models of."""
    found = [path.parent.name.removeprefix("fold-") for path in folder.glob("fold-*/model.json")]
    return sorted(int(number) for number in found if number.isdigit())
