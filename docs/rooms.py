"""Rooms of the package: their order, the imports between them, and both as Markdown.

python docs/rooms.py        print the imports that break the order, and the circles
"""

from __future__ import annotations

import ast
import graphlib
import sys
from collections import Counter
from pathlib import Path

from mermaid import flowchart, reduced

PACKAGE = Path(__file__).resolve().parents[1] / "scripts" / "slide2rna"
# In the order of the flow: a module imports from its own room and from rooms above it, never from
# one below. A room of rooms stands after them.
ROOMS = (
    *("core", "storage", "transfer", "pathways", "slides", "cohort"),
    *("features", "simulate", "flow", "plan"),
    *("data", "models", "training", "published", "sampling"),
    *("evaluation.metrics", "evaluation.scoring", "evaluation.uncertainty", "evaluation"),
    *("studies.shift", "studies.stain", "studies.samplers", "studies.leak_audit"),
    *("studies.external", "studies"),
    *("pages", "report.sections", "report.figures", "report"),
    *("package", "predict", "maps"),
    *("spatial", "synthesis"),
    *("operations", "commands"),
)
# Rooms whose place is fixed before they are built.
COMING = {
    "synthesis": "Tiles from a profile: tokenizer, gene prior, generator, and the judge.",
}


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Return all modules by dotted name below the package; a room's name is its `__init__`."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        paths[name.removesuffix("__init__").rstrip(".")] = path
    return paths


def imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return the package's modules that each module imports, also for types or in functions."""
    paths = modules(package)
    return {name: imported(path, package, paths) - {name} for name, path in paths.items()}


def imported(path: Path, package: Path, paths: dict[str, Path]) -> set[str]:
    """Return the modules among `paths` that a file imports."""
    targets: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            targets += [f"{node.module}.{alias.name}" for alias in node.names]
    prefix = f"{package.name}."
    names = [target.removeprefix(prefix) for target in targets if target.startswith(prefix)]
    # A name that is no module is a function or a class of the module before it.
    return {
        module
        for name in names
        if (module := next((m for m in (name, name.rpartition(".")[0]) if m in paths), ""))
    }


def room(module: str) -> str:
    """Return the room of a module; empty for the package's own `__init__` and `__main__`."""
    return module if module in ROOMS else module.rpartition(".")[0]


def upward(edges: dict[str, set[str]]) -> list[str]:
    """Return imports from a room that comes later, as `module -> module`."""
    place = {name: index for index, name in enumerate(ROOMS)}
    return sorted(
        f"{a} -> {b}"
        for a, targets in edges.items()
        for b in targets
        if room(a) and place[room(b)] > place[room(a)]
    )


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return modules of an import cycle; empty without a cycle."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def table(package: Path = PACKAGE) -> str:
    """Return a Markdown table of the rooms in order: number of modules, docstring of `__init__`."""
    paths = modules(package)
    sizes = Counter(room(name) for name in paths if name not in ROOMS)
    rows = ["| room | modules | what it holds |", "|---|---|---|"]
    for name in ROOMS:
        if name in COMING:
            rows.append(f"| {name} | to come | {COMING[name]} |")
            continue
        folder, about = name.replace(".", "/"), first_line(paths[name])
        rows.append(f"| [{folder}](../../scripts/slide2rna/{folder}) | {sizes[name]} | {about} |")
    return "\n" + "\n".join(rows) + "\n"


def picture(package: Path = PACKAGE) -> str:
    """Return the imports between top-level rooms as a Mermaid graph, without core."""
    edges = {
        (b.partition(".")[0], a.partition(".")[0])
        for a, targets in imports(package).items()
        for b in targets
        if room(a)
    }
    shown = {(a, b) for a, b in edges if a != b and a != "core"}
    return flowchart(reduced(shown), "TD")


def first_line(path: Path) -> str:
    """Return the first line of a file's docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def listing(package: Path = PACKAGE) -> str:
    """Return Markdown lists of all modules, room by room, and of the modules each script calls."""
    parts = []
    for name in (name for name in ROOMS if name not in COMING):
        folder = name.replace(".", "/")
        parts.append(f"## {folder}\n\n| module | |\n|---|---|")
        for path in sorted(package.joinpath(folder).glob("*.py")):
            if path.name != "__init__.py":
                parts.append(f"| `{folder}/{path.name}` | {first_line(path)} |")
        parts.append("")
    parts.append("## Scripts\n\n| script | | modules |\n|---|---|---|")
    paths = modules(package)
    for path in sorted(package.parent.glob("*.py")):
        edges = imported(path, package, paths)
        called = ", ".join(sorted(name for name in edges if room(name) not in ("", "core")))
        parts.append(f"| `{path.name}` | {first_line(path)} | {called} |")
    return "\n".join(parts)


def main() -> None:
    edges = imports()
    wrong = upward(edges)
    if ring := circle(edges):
        wrong.append(f"circle: {' -> '.join(ring)}")
    print("\n".join(wrong) or f"{len(edges)} modules: no import from a later room, no circle")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
