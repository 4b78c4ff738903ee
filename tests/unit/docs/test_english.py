"""Plain English: first words of docstrings, and words to avoid."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# Files where no word of `AVOIDED` may occur; add a path or a pattern here.
TEXTS = (
    "scripts/**/*.py",
    "scripts/**/*.j2",
    "benchmarks/*.py",
)
AVOIDED = re.compile(
    r"\b(told|anew|mend(?:s|ed|ing)?|so many|but for|there is none|of (?:its|their) own"
    r"|all the same|can['’]t be (?:known|told|had))\b",
    re.IGNORECASE,
)
# Text that a table of the evaluation holds.
ALLOWED = {"scripts/slide2rna/evaluation/uncertainty/coexpression_table.py": {"of its own"}}
# A clause in the place of a noun of the field.
CLAUSE = re.compile(r"(what|which|whether|how|why|where|when|who|everything|all)\b", re.IGNORECASE)
# A function's docstring starts with a verb in its plain form, never with one of these.
NO_VERB = re.compile(
    r"(the|an?|this|that|its|all|each|every|true|false|as|one|\w+ of)\b", re.IGNORECASE
)


def paths(repo: Path, *patterns: str) -> list[Path]:
    return sorted({path for pattern in patterns for path in repo.glob(pattern)})


def docstrings(repo: Path, *patterns: str) -> Iterator[tuple[str, ast.AST, str]]:
    """Yield the place, the node and the docstring of modules, classes and functions."""
    for path in paths(repo, *patterns):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text:
                    place = f"{path.relative_to(repo)}: {getattr(node, 'name', 'module')}"
                    yield place, node, text


def is_property(node: ast.AST) -> bool:
    names = {ast.unparse(item) for item in getattr(node, "decorator_list", [])}
    return bool(names & {"property", "cached_property", "functools.cached_property"})


def test_words_to_avoid(repo: Path) -> None:
    found = []
    for path in paths(repo, *TEXTS):
        name = str(path.relative_to(repo))
        for number, line in enumerate(path.read_text().splitlines(), 1):
            words = {word.lower() for word in AVOIDED.findall(line)} - ALLOWED.get(name, set())
            found += [f"{name}:{number}: {word}" for word in sorted(words)]
    assert found == []


def test_allowed_words_occur(repo: Path) -> None:
    """An exception that is no longer needed is removed from the list."""
    for name, words in ALLOWED.items():
        found = {word.lower() for word in AVOIDED.findall((repo / name).read_text())}
        assert words <= found, name


def test_modules_start_with_a_noun(repo: Path) -> None:
    found = [
        f"{place}: {text.splitlines()[0]}"
        for place, node, text in docstrings(repo, "scripts/slide2rna/**/*.py", "benchmarks/*.py")
        if isinstance(node, ast.Module) and CLAUSE.match(text)
    ]
    assert found == []


def test_functions_start_with_a_verb(repo: Path) -> None:
    found = [
        f"{place}: {text.splitlines()[0]}"
        for place, node, text in docstrings(repo, "scripts/**/*.py", "benchmarks/*.py")
        if isinstance(node, ast.FunctionDef)
        and not is_property(node)
        and (CLAUSE.match(text) or NO_VERB.match(text) or re.match(r"[A-Z][a-z]+s\b", text))
        and text.split()[0] not in PLAIN_S
    ]
    assert found == []


def test_classes_are_no_clauses(repo: Path) -> None:
    found = [
        f"{place}: {text.splitlines()[0]}"
        for place, node, text in docstrings(repo, "scripts/**/*.py", "benchmarks/*.py")
        if isinstance(node, ast.ClassDef) and CLAUSE.match(text)
    ]
    assert found == []


# Verbs whose plain form ends with s.
PLAIN_S = {"Compress", "Discuss", "Express", "Pass", "Process"}


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("Captions for expression maps.", True),
        ("What is told of each map.", False),
        ("How far a slide lies from training.", False),
    ],
)
def test_clauses_are_recognised(text: str, fine: bool) -> None:
    assert (CLAUSE.match(text) is None) == fine
