"""Random changes of a project's inputs between two runs, and the tables of a fresh run.

Two small cohorts have every kind of input: a sheet, slides, a table and a folder of expression,
own features and a split. Each input file has two contents.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import yaml
from PIL import Image
from slide_factory import picture

REPO = Path(__file__).resolve().parents[2]
PATIENTS = [f"P{number}" for number in range(6)]
GENES = ("TP53", "ESR1", "A1BG", "EGFR")
STAR = ("gene_id", "gene_name", "gene_type", "unstranded", "fpkm_uq_unstranded")
ENCODERS = {"own": "files", "tiled": "color"}
TABLES = ("**/*.parquet", "**/*.tsv", "*/cohort.json", "*/guard.json", "*/bags/*.safetensors")
CHANGES = ("edit", "edit, time restored", "rename over", "touch", "there and back", "copy project")


def _content(name: str, other: bool) -> bytes:
    """The first or the other content of an input file."""
    stem, rng = Path(name).stem, np.random.default_rng([other, *name.encode()])
    if name.endswith(".csv"):
        rows = [[patient, *rng.uniform(0, 9, len(GENES)).round(3)] for patient in PATIENTS]
        return "\n".join(",".join(map(str, row)) for row in [["sample_id", *GENES], *rows]).encode()
    if name.startswith("star/"):
        values = [
            (f"ENSG{n:011d}.1", gene, "protein_coding", 7, round(rng.uniform(1, 9), 3))
            for n, gene in enumerate(GENES)
        ]
        return "\n".join("\t".join(map(str, row)) for row in [STAR, *values]).encode()
    if name == "sheet.tsv":
        rows = [
            [f"S{p}", p, f"slides/S{p}.png", "a" if (n + other) % 3 else "b", "0.5"]
            for n, p in enumerate(PATIENTS)
        ]
        head = ["slide_id", "patient_id", "slide", "site", "mpp"]
        return "\n".join("\t".join(row) for row in [head, *rows]).encode()
    if name == "splits.tsv":
        order = PATIENTS[::-1] if other else PATIENTS
        parts = ("train", "train", "train", "val", "cal", "test")
        rows = [
            [patient, str(fold), parts[(n + 3 * fold) % 6]]
            for fold in range(2)
            for n, patient in enumerate(order)
        ]
        return "\n".join("\t".join(row) for row in [["patient_id", "fold", "part"], *rows]).encode()
    raise ValueError(f"{stem} has no text")


def put(project: Path, name: str, other: bool) -> None:
    """Write an input file's first or other content."""
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = PATIENTS.index(path.stem[1:]) + 50 * other if path.suffix in (".png", ".h5") else 0
    if path.suffix == ".png":
        Image.fromarray(picture(1024, 1024, seed=seed)).save(path, compress_level=1)
    elif path.suffix == ".h5":
        rng = np.random.default_rng(seed)
        with h5py.File(path, "w") as file:
            file["features"] = rng.normal(size=(9, 5)).astype(np.float32)
            file["coords"] = np.stack(np.divmod(np.arange(9), 3), axis=1) * 256
    else:
        path.write_bytes(_content(name, other))


INPUTS = [
    *("sheet.tsv", "rna.csv", "splits.tsv"),
    *(f"star/{patient}.tsv" for patient in PATIENTS),
    *(f"slides/S{patient}.png" for patient in PATIENTS),
    *(f"h5/S{patient}.h5" for patient in PATIENTS),
]


def write_project(project: Path) -> None:
    """Write all inputs with their first content, and the configuration."""
    for name in INPUTS:
        put(project, name, other=False)
    sheet = {"source": "sheet", "sheet": "sheet.tsv"}
    small = {"folds": {"n": 2}, "bags": {"k": 2}, "tiles": {"min_tiles": 1}}
    own = sheet | {"expression": "rna.csv", "splits": "splits.tsv"}
    cohorts = {
        "own": own | {"settings": {"features": {"encoder": "files", "path": "h5"}}},
        "tiled": sheet | {"expression": "star", "settings": {"features": {"encoder": "color"}}},
    }
    (project / "config.yaml").write_text(yaml.safe_dump({"cohorts": cohorts} | small))


def run(project: Path, cohorts: Sequence[str]) -> None:
    """Run Snakemake up to the bags of some cohorts."""
    targets = [
        f"results/{cohort}/{name}"
        for cohort in cohorts
        for name in (f"bags/{ENCODERS[cohort]}.safetensors", "guard.json")
    ]
    command = [sys.executable, "-m", "snakemake", "-s", str(REPO / "Snakefile"), "--cores", "2"]
    command += ["--nolock", "--", *targets]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]


def tables(project: Path) -> dict[str, str]:
    """Digest of each table, by its path below the results."""
    results = project / "results"
    paths = {path for pattern in TABLES for path in results.glob(pattern) if path.is_file()}
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if not {"benchmarks", "logs"} & set(path.parts)
    }


@dataclass
class Trials:
    """Sequences of changes, each followed by a rerun that is compared with a fresh run."""

    folder: Path
    rng: random.Random
    cohorts: Sequence[str] = tuple(ENCODERS)
    fresh: dict[tuple[bool, ...], dict[str, str]] = field(default_factory=dict)
    other: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(INPUTS, False))
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    copies: int = 0

    def __post_init__(self) -> None:
        self.project = self.folder / "project"
        write_project(self.project)
        run(self.project, self.cohorts)

    def sequence(self) -> None:
        """Make one to three changes, rerun, and compare."""
        made = [self._change() for _ in range(self.rng.randint(1, 3))]
        run(self.project, self.cohorts)
        expected, found = self._expected(), tables(self.project)
        if found != expected:
            names = sorted(k for k in expected | found if expected.get(k) != found.get(k))
            self.wrong.append(f"{made}: {names}")
        self.done.update(kind for kind, _ in made)

    def _change(self) -> tuple[str, str]:
        """Change one input in a random way."""
        kind, name = self.rng.choice(CHANGES), self.rng.choice(INPUTS)
        path = self.project / name
        before = path.stat()
        if kind == "touch":
            os.utime(path, (before.st_atime, before.st_mtime + self.rng.randint(-(10**6), 10**6)))
        elif kind == "copy project":
            self.copies += 1
            copy = self.folder / f"copy-{self.copies}"
            shutil.copytree(self.project, copy, symlinks=True)
            shutil.rmtree(self.project)
            self.project = copy
        elif kind == "there and back":
            put(self.project, name, not self.other[name])
            put(self.project, name, self.other[name])
        else:
            self.other[name] = not self.other[name]
            if kind == "rename over":
                aside = self.folder / "aside"
                put(aside, name, self.other[name])
                os.utime(aside / name, (10**9, 10**9))
                (aside / name).rename(path)
            else:
                put(self.project, name, self.other[name])
            if kind == "edit, time restored":
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return kind, name

    def _expected(self) -> dict[str, str]:
        """Tables of a fresh run on the same inputs."""
        state = tuple(self.other.values())
        if state not in self.fresh:
            fresh = self.folder / "fresh"
            write_project(fresh)
            for name, other in self.other.items():
                put(fresh, name, other)
            run(fresh, self.cohorts)
            self.fresh[state] = tables(fresh)
            shutil.rmtree(fresh)
        return self.fresh[state]
