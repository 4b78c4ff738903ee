"""Stamps of a cohort's inputs as parameters: a replaced file reruns what depends on it.

Only the process that plans looks at the files. A cluster node takes the cached stamps.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from slide2rna.core.config import manifest_path
from slide2rna.core.delimited_text import MISSING, read_cells
from slide2rna.core.errors import UserError
from slide2rna.core.files import read_json
from slide2rna.core.seeds import shard_of
from slide2rna.plan.inputs import InputFunction, Inputs
from slide2rna.plan.parameters import ParamsFunction
from slide2rna.plan.plan import Plan, Wildcards
from slide2rna.storage.stamps import Stamps, cache_of, combine

ELSEWHERE = Path(".snakemake")  # of the cache of inputs in a folder that isn't writable


@dataclass(frozen=True)
class InputStamps:
    """Params functions with the stamps of what the user gave."""

    plan: Plan
    inputs: Inputs
    on_node: bool = False
    _caches: dict[str, Stamps] = field(default_factory=dict)
    _stamped: dict[tuple[str, str, int], dict[int, str]] = field(default_factory=dict)

    def tables(self, *files: InputFunction) -> ParamsFunction:
        """Return the params function of the content of a job's tables."""

        def contents(wildcards: Wildcards) -> str:
            found = [function(wildcards) for function in files]
            paths = [path for one in found for path in ([one] if isinstance(one, str) else one)]
            return combine(self._cache(wildcards.cohort).contents(_with_files(paths)))

        return contents

    def manifest(self, wildcards: Wildcards) -> str:
        """Return the content of a frozen manifest that has changed since it was frozen."""
        cohort = self.plan.cohort(wildcards)
        if cohort.block["source"] != "gdc":
            return ""
        path = manifest_path(cohort.name, cohort.block)
        if not path.is_file():
            return ""
        (digest,) = self._cache(cohort.name).contents([path])
        record = Path(self.plan.paths.frozen_manifest.format(cohort=cohort.name))
        frozen = read_json(record)["sha256"] if record.is_file() else None
        return "" if digest == frozen else digest

    def slides(self, wildcards: Wildcards) -> str:
        """Return the stamp of a shard's slides; fetched slides are checked by their md5."""
        cohort = self.plan.cohort(wildcards)
        source, path = cohort.block["source"], Path(self.inputs.slides_folder(cohort.name))
        if source == "her2st":
            return combine(self._cache(cohort.name).samples(sorted(path.glob("*.jpg"))))
        sheet = self.inputs.sheet(cohort)
        if sheet is None or not sheet.is_file():
            return ""

        def named() -> dict[str, Path]:
            return {name: path / slide for name, slide in _sheet_slides(sheet).items()}

        return self._of_shard(wildcards, "slides", sheet, named)

    def features(self, wildcards: Wildcards) -> str:
        """Return the stamp of a shard's own features, or the content of a table of vectors."""
        features = self.plan.cohort(wildcards).features[wildcards.encoder]
        if features["encoder"] != "files" or not features["path"]:
            return ""
        folder = Path(features["path"])
        if folder.is_file():
            return self._cache(wildcards.cohort).contents([folder])[0]
        if not folder.is_dir():
            return ""

        def named() -> dict[str, Path]:
            return {path.stem: path for path in folder.glob("*.h5")}

        return self._of_shard(wildcards, str(folder), folder, named)

    def cache(self, wildcards: Wildcards) -> str:
        """Return the option for the file with the stamps of the user's own features."""
        features = self.plan.cohort(wildcards).features[wildcards.encoder]
        if features["encoder"] != "files":
            return ""
        return shlex.join(["--stamps", str(self._cache(wildcards.cohort).cache)])

    def _of_shard(
        self, wildcards: Wildcards, what: str, listed_in: Path, named: Callable[[], dict[str, Path]]
    ) -> str:
        """Return the stamp of a shard's files, which are stamped together once per listing."""
        moment = (wildcards.cohort, what, listed_in.stat().st_mtime_ns)
        if moment not in self._stamped:
            files = dict(sorted(named().items()))
            stamps = self._cache(wildcards.cohort).samples(list(files.values()))
            shards = defaultdict[int, list[str]](list)
            count = len(self.plan.cohort(wildcards).shards)
            for name, stamp in zip(files, stamps, strict=True):
                shards[shard_of(name, count)].append(f"{name}={stamp}")
            self._stamped[moment] = {shard: combine(found) for shard, found in shards.items()}
        return self._stamped[moment].get(int(wildcards.shard), "")

    def _cache(self, cohort: str) -> Stamps:
        """Return the cache beside a cohort's inputs."""
        if cohort not in self._caches:
            folder = Path(self.inputs.slides_folder(cohort))
            self._caches[cohort] = Stamps(cache_of(folder, ELSEWHERE), trusted=self.on_node)
        return self._caches[cohort]


def _with_files(paths: list[str]) -> list[Path]:
    """Return files, and those of folders, such as a folder of STAR counts or of a model."""
    found = list[Path]()
    for path in map(Path, paths):
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [file for file in below if not file.is_dir() and not file.name.startswith(".")]
    return found


def _sheet_slides(sheet: Path) -> dict[str, str]:
    """Return the slide of each row of a sheet; nothing if the stage cohort will refuse it."""
    try:
        _, names, rows = read_cells(sheet)
    except UserError:
        return {}
    if not {"slide_id", "slide"} <= set(names):
        return {}
    key, slide = names.index("slide_id"), names.index("slide")
    cells = [(row[key], row[slide]) for _, row in rows if len(row) == len(names)]
    return {name: value for name, value in cells if value not in MISSING}
