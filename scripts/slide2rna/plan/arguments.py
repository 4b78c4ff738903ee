"""Arguments of the steps' command lines that are no section of the configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slide2rna.plan.inputs import Inputs
from slide2rna.plan.plan import Plan, Wildcards, as_json


@dataclass(frozen=True)
class Arguments:
    """Params functions that give words of a command line, quoted."""

    plan: Plan
    inputs: Inputs

    def published_folds(self, wildcards: Wildcards) -> str:
        """Return section folds and the seed, where published folds say which slides there are."""
        cohort = self.plan.cohort(wildcards)
        if not cohort.published_folds:
            return ""
        folds = shlex.quote(as_json(cohort.settings["folds"]))
        return f"--folds {folds} --seed {self.plan.config['seed']}"

    def given_split(self, wildcards: Wildcards) -> str:
        """Return the user's own split, or the sheet that may have one as a column."""
        block = self.plan.cohort(wildcards).block
        options = {"--splits": block.get("splits"), "--origin": block.get("sheet")}
        if "published_splits" in block:
            options = {"--published-splits": block["published_splits"]}
        return _words(options.items())

    def needs_slides(self, wildcards: Wildcards) -> str:
        """Return the option to check for slides; features that come from files need none."""
        return "--needs-slides" if self.plan.cohort(wildcards).has_tiles else ""

    def slides_folder(self, wildcards: Wildcards) -> str:
        """Return the folder that slide paths are relative to."""
        return shlex.join(["--slides-folder", self.inputs.slides_folder(wildcards.cohort)])

    def server(self, wildcards: Wildcards) -> str:
        """Return where a token may go, and the file that holds it."""
        block = self.plan.cohort(wildcards).block
        if block["source"] != "gdc":
            return ""
        return _words({"--api": block["api"], "--token-file": block["token_file"]}.items())

    def downloads(self, wildcards: Wildcards) -> int:
        """Return the connections that a download job may hold; the user's own slides need none."""
        block = self.plan.cohort(wildcards).block
        return block["downloads"] if block["source"] == "gdc" else 0

    def further_training(self, wildcards: Wildcards) -> str:
        """Return what else joins a training, as one string: where nothing does, nothing reruns."""
        folder = self.plan.paths.folder
        partners = [folder.format(cohort=name) for name in self.plan.partners(wildcards)]
        starts = self.plan.cohort(wildcards).starting_models(self.plan.run(wildcards))
        options = [("--partner", folder) for folder in partners]
        options += [("--start", folder) for folder in starts]
        options += [("--resamples", path) for path in self.inputs.resampled_bags(wildcards)]
        return _words(options)

    def truth(self, wildcards: Wildcards) -> str:
        """Return the table of attainable correlations, where the generator leaves one."""
        if not self.inputs.truth_mark(wildcards):
            return ""
        path = self.plan.paths.truth_genes.format(cohort=wildcards.cohort)
        return shlex.join(["--truth", path])

    # Of a job's files: Snakemake compares the files themselves, and not these params.

    def tiles(self, wildcards: Wildcards, input: Any) -> str:
        """Return the folder and the manifest of a shard's tiles; own features have none."""
        if not input.tiles:
            return ""
        folder = str(Path(input.tiles).parent)
        return shlex.join(["--tiles", folder, "--tiles-manifest", str(input.tiles)])

    def models(self, wildcards: Wildcards, input: Any) -> list[str]:
        """Return the folders of the fold models."""
        return [str(Path(model).parent) for model in input.models]

    def others(self, wildcards: Wildcards, input: Any) -> str:
        """Return the draws of other runs, where there are any."""
        return f"--others {shlex.join(input.others)}" if input.others else ""

    def student(self, wildcards: Wildcards, input: Any) -> str:
        """Return the folder of the one-step student, where there is one."""
        if not input.student:
            return ""
        return shlex.join(["--student", str(Path(input.student[0]).parent)])

    def gene_sets(self, wildcards: Wildcards, input: Any) -> str:
        """Return the file of the gene sets, where a network needs them."""
        return f"--pathways {shlex.quote(str(input.pathways))}" if input.pathways else ""

    def reference_draws(self, wildcards: Wildcards, input: Any) -> list[str]:
        """Return the draws of the sampler that the others are compared with, one per fold."""
        return self._drawn(wildcards, input, slice(0, 1))

    def sampler_draws(self, wildcards: Wildcards, input: Any) -> list[str]:
        """Return the draws of the other samplers, one per sampler and fold."""
        return self._drawn(wildcards, input, slice(1, None))

    def _drawn(self, wildcards: Wildcards, input: Any, which: slice) -> list[str]:
        samplers = self.plan.cohort(wildcards).samplers[which]
        return [f"{fold}/{sampler.name}.zarr" for sampler in samplers for fold in input.draws]


def _words(options: Iterable[tuple[str, str | None]]) -> str:
    """Return options and their values as words of a command line, without those of None."""
    given = [(option, value) for option, value in options if value is not None]
    return shlex.join(word for pair in given for word in pair)
