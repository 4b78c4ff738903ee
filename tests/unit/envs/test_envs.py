"""The environments of conda: what jobs import, with pyproject's bounds, from one channel."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conda_stand_in import channel
from conda_stand_in.stand_in import LEFT_OUT

REPO = Path(__file__).resolve().parents[3]
ENVS = sorted((REPO / "envs").glob("*.yaml"))
CPU, GPU = (REPO / "envs" / f"{name}.yaml" for name in ("cpu", "gpu"))
# Of one name on PyPI: a package and the library that conda-forge has beside it.
BESIDE = "openslide-bin"
DISTRIBUTIONS = metadata.packages_distributions()


def named(env: Path) -> dict[str, str]:
    """What an environment names, with its bounds; a CUDA build counts as the package."""
    cpu = {gpu: name for name, gpu in channel.CUDA_BUILDS.items()}
    found = {}
    for text in yaml.safe_load(env.read_text())["dependencies"]:
        name, _, bounds = text.partition(" ")
        found[cpu.get(name, name)] = bounds
    return found


def wanted() -> dict[str, str]:
    """What pyproject.toml asks for, by conda-forge's names."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    pairs = [re.split(r"(?=[<>=~!])", text, maxsplit=1) for text in project["dependencies"]]
    return {
        channel.conda_name(name): bounds
        for name, bounds in pairs
        if not name.startswith(LEFT_OUT) and name != BESIDE
    }


def imported(folder: Path) -> set[str]:
    """Top-level names that any code below a folder imports, wherever in it."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).split(".")[0])
    return found - sys.stdlib_module_names - {"slide2rna"}


def test_there_are_two() -> None:
    assert ENVS == [CPU, GPU]


@pytest.mark.parametrize("env", ENVS, ids=lambda env: env.stem)
def test_one_channel_and_nothing_from_elsewhere(env: Path) -> None:
    content = yaml.safe_load(env.read_text())
    assert content.keys() == {"channels", "dependencies"}
    assert content["channels"] == ["conda-forge"]
    for text in content["dependencies"]:
        # Not a mapping (pip:), no other channel (name::), no path, no URL, no build string.
        assert isinstance(text, str)
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*( (>=|=)\d[\d.]*)?", text), text


@pytest.mark.parametrize("env", ENVS, ids=lambda env: env.stem)
def test_bounds_are_those_of_pyproject(env: Path) -> None:
    found = named(env)
    assert found.pop("python") == "=3.11"
    found.pop("pip", None)
    assert found == wanted()


def test_gpu_is_cpu_with_builds_for_cuda() -> None:
    cpu, gpu = (set(yaml.safe_load(env.read_text())["dependencies"]) for env in (CPU, GPU))
    for name, build in channel.CUDA_BUILDS.items():
        (line,) = (text for text in cpu if text.startswith(f"{name} "))
        cpu = cpu - {line} | {line.replace(name, build)}
    assert gpu == cpu - {"pip"}


def names_of(module: str) -> set[str]:
    """conda-forge's names of the packages that hold a module."""
    return {channel.conda_name(name) for name in DISTRIBUTIONS.get(module, [module])}


def test_whatever_is_imported_is_named() -> None:
    """By itself, or as what a named package depends on."""
    covered = set(named(CPU))
    for name in wanted():
        covered |= {need.split()[0] for need in channel.depends(name)}
    assert {name for name in imported(REPO / "scripts") if not names_of(name) & covered} == set()


def test_the_snakefile_needs_nothing_but_snakemake() -> None:
    """With conda, the interpreter that runs Snakemake has no more than Snakemake itself."""
    rules = REPO / "workflow" / "rules" / "common.smk"
    lines = re.findall(r"^(?:from|import) .*", rules.read_text(), re.M)
    own = [line for line in lines if "slide2rna" in line]
    assert len(own) >= 4
    code = "\n".join(
        (
            f"import sys; before = set(sys.modules); sys.path.insert(0, {str(REPO / 'scripts')!r})",
            *own,
            "print(*{name.split('.')[0] for name in set(sys.modules) - before})",
        )
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen = set(done.stdout.split()) - sys.stdlib_module_names - {"slide2rna"}
    assert "jsonschema" in seen
    brought = {package.name for package in channel.closure(["snakemake"])}
    assert {name for name in seen & DISTRIBUTIONS.keys() if not names_of(name) & brought} == set()


def blocks() -> dict[str, str]:
    """The text of each rule that runs a command, by file and line."""
    found = {}
    for path in sorted((REPO / "workflow").rglob("*.smk")):
        parts = re.split(r"(?m)^(?=\s*(?:rule|checkpoint)\b[^\n]*:$)", path.read_text())
        found |= {f"{path.stem}-{i}": text for i, text in enumerate(parts) if "shell:" in text}
    return found


def test_each_rule_names_its_environment() -> None:
    """Those that may take a GPU the one for it, all others the one without; see common.smk."""
    assert len(blocks()) >= 25
    for name, text in blocks().items():
        (conda,) = re.findall(r"conda:\s+(\S+)", text)
        may_take = "gpu=" in text
        assert conda == ("GPU_ENV" if may_take else '"../../envs/cpu.yaml"'), name


def test_no_rule_leans_on_where_python_looks() -> None:
    """Conda jobs run without PYTHONPATH; each command names its script."""
    for name, text in blocks().items():
        command = text.split("shell:")[1]
        assert re.match(r'\s*"python \{params\.scripts\}/\w+\.py ', command), name
    for path in [REPO / "Snakefile", *(REPO / "workflow").rglob("*.smk")]:
        assert "PYTHONPATH" not in path.read_text(), path.name
