"""The rules of the house, read from the source: rooms, their order, sizes, and what they import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import rooms

LONGEST, MOST = 300, 20
# Folders of tests/unit that mirror a folder of the repository, and no room.
OUTSIDE = {"benchmarks", "docs", "envs", "resources"}


def write(folder: Path, **modules: str) -> Path:
    """A package `slide2rna` of these modules, named by room__module."""
    for name, text in modules.items():
        path = folder.joinpath("slide2rna", *name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "slide2rna"


def test_rooms_import_only_from_rooms_above() -> None:
    edges = rooms.imports()
    assert len(edges) > 200
    assert sum(map(len, edges.values())) > 800
    assert rooms.upward(edges) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert rooms.circle(rooms.imports()) == []


def test_an_import_from_a_later_room_is_seen_wherever_it_stands(tmp_path: Path) -> None:
    package = write(
        tmp_path,
        core__files="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from slide2rna.maps.figure import draw\n",
        slides__tiles="def tile():\n    import slide2rna.report.report\n",
        maps__figure="from slide2rna.core import files\n",
        report__report="",
    )
    edges = rooms.imports(package)
    assert rooms.upward(edges) == [
        "core.files -> maps.figure",
        "slides.tiles -> report.report",
    ]
    assert set(rooms.circle(edges)) == {"core.files", "maps.figure"}


def test_every_folder_is_a_room() -> None:
    folders = {
        ".".join(path.parent.relative_to(rooms.PACKAGE).parts)
        for path in rooms.PACKAGE.rglob("*.py")
    }
    assert folders - {""} == set(rooms.ROOMS) - set(rooms.COMING)


@pytest.mark.parametrize("folder", ["scripts", "docs", "tests", "benchmarks"])
def test_files_and_folders_stay_small(repo: Path, folder: str) -> None:
    paths = list((repo / folder).rglob("*.py"))
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert {path: n for path, n in lines.items() if n > LONGEST} == {}


def test_no_room_has_too_many_modules() -> None:
    for path in {path.parent for path in rooms.PACKAGE.rglob("*.py")}:
        assert len([p for p in path.glob("*.py") if p.name != "__init__.py"]) <= MOST, path


def test_the_init_of_a_room_is_one_docstring() -> None:
    for path in rooms.PACKAGE.rglob("__init__.py"):
        if path.parent != rooms.PACKAGE:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert len(tree.body) == 1, path
            assert ast.get_docstring(tree), path


def test_libraries_do_not_import_the_command_line() -> None:
    """Only commands, and libraries that add options to a parser, know `core.cli`."""
    users = {name for name, targets in rooms.imports().items() if "core.cli" in targets}
    assert {name for name in users if rooms.room(name) not in ("", "commands")} <= {
        "simulate.genes"
    }


def test_unit_tests_mirror_the_rooms(repo: Path) -> None:
    unit = repo / "tests" / "unit"
    assert {path.name for path in unit.glob("*.py")} == {"conftest.py"}
    folders = {path.parent.relative_to(unit).as_posix() for path in unit.rglob("test_*.py")}
    assert folders <= {room.split(".")[0] for room in rooms.ROOMS} | OUTSIDE


def test_tests_share_helpers_by_support_alone(repo: Path) -> None:
    """No test imports a test, and `pythonpath` in pyproject.toml stands for edits of sys.path."""
    for path in (repo / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [name for name in names if name.startswith("test_")], path
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"), path
