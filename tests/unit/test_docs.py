"""The documentation: links, generated pages, described columns, and files that others read."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import docstrings
import pytest
import yaml
from slide2rna import __version__

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from doc_blocks import blocks

LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)\s]+)\)")
MENTION = re.compile(r"\b(?:docs|config)/[\w./-]+\.md\b")


def tracked(repo: Path, *patterns: str) -> list[Path]:
    """Files of the repository, new ones included, that fit a pattern."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=repo,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [repo / name for name in sorted(set(listed.splitlines())) if (repo / name).is_file()]


def anchors(page: Path) -> set[str]:
    """Anchors that a page's headings get on GitHub."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_link_leads_somewhere(repo: Path) -> None:
    pages = tracked(repo, "*.md")
    assert len(pages) >= 20
    wrong = []
    for page in pages:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(f"{page.relative_to(repo)}: {link}")
    assert not wrong


def test_pages_that_code_mentions_are_there(repo: Path) -> None:
    kinds = ("*.py", "*.smk", "*.yaml", "*.yml", "*.j2", "Makefile", "Snakefile", "*.toml")
    wrong = [
        f"{file.relative_to(repo)}: {mention}"
        for file in tracked(repo, *kinds)
        for mention in MENTION.findall(file.read_text(encoding="utf-8"))
        if not (repo / mention).is_file()
    ]
    assert not wrong


def test_every_page_is_in_the_contents(repo: Path) -> None:
    listed = LINK.findall((repo / "docs/README.md").read_text(encoding="utf-8"))
    there = {str(page.relative_to(repo / "docs")) for page in tracked(repo, "docs/*.md")}
    assert there - {"README.md"} == set(listed)
    kinds = {page.split("/")[0] for page in listed}
    assert kinds == {"tutorial", "how-to", "reference", "explanation"}


@pytest.fixture(scope="module")
def reference(repo: Path) -> dict[str, Any]:
    return runpy.run_path(str(repo / "docs" / "build_reference.py"))


def test_the_reference_is_what_the_generator_writes(
    repo: Path, reference: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The README's graph, which needs Snakemake, has a test of its own."""
    made = {name: reference[f"{name}_page"]() for name in ("config", "sheet", "commands")}
    made |= {name: reference[f"{name}_page"]() for name in ("tables", "api")}
    stale = [
        name
        for name, text in made.items()
        if (repo / f"docs/reference/{name}.md").read_text() != f"{text.rstrip()}\n"
    ]
    assert not stale, "run python docs/build_reference.py"


def test_every_step_is_in_the_reference(repo: Path, reference: dict[str, Any]) -> None:
    from slide2rna import __main__ as app

    there = {path.stem for path in (repo / "scripts").glob("*.py")}
    assert there <= {*reference["STAGES"], *app.NAMES}


def schema_of(target: str) -> list[str]:
    module, name = target.split(":")
    return list(getattr(import_module(f"slide2rna.{module}"), name))


def test_described_columns_are_those_of_the_code(repo: Path) -> None:
    told = yaml.safe_load((repo / "docs/reference/tables.yaml").read_text())
    checked = 0
    for table in told["tables"]:
        assert all(table.get("columns", {"": "x"}).values()), table["path"]
        if "schema" in table:
            columns = {*table["columns"], "protocol"}
            written = {*schema_of(table["schema"]), *table.get("also", []), "protocol"}
            shared = set(told["shared"]["columns"])
            assert columns - shared == written - shared, table["path"]
            checked += 1
    assert checked >= 10


SOURCE = '''"""First.

Second."""


class Box(Base):
    """A box.

    Attributes
    ----------
    size : int
        In px.
    """

    size: int = 3

    def open(self, how: str = "x") -> int:
        """Open it."""

    def _own(self) -> None:
        """Not shown."""
'''


def test_docstrings_become_markdown(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(SOURCE)
    text = docstrings.module(tmp_path, "one", ["Box"])
    assert text.startswith("## one\n\nFirst.\n")
    assert "class Box(Base):\n    size: int = 3\n" in text
    assert "**Attributes**\n\n- `size`: int\n  In px.\n" in text
    assert "#### Box.open" in text
    assert "Not shown" not in text
    with pytest.raises(KeyError, match=r"one\.Lid"):
        docstrings.module(tmp_path, "one", ["Lid"])


def test_what_the_citation_file_needs(repo: Path) -> None:
    """The keys that CFF 1.2.0 requires, of the file and of each reference, and its version."""
    citation = yaml.safe_load((repo / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["type"] == "software"
    assert str(citation["version"]) == __version__
    assert citation["license"] == "MIT"
    for work in [citation, *citation["references"]]:
        assert {"type", "title", "authors"} <= set(work)
        for author in work["authors"]:
            assert "name" in author or {"family-names", "given-names"} <= set(author)
        assert re.fullmatch(r"10\.\d{4,}/\S+", work.get("doi", "10.1234/x"))
    assert __version__ in (repo / "CHANGELOG.md").read_text()
    assert "MIT License" in (repo / "LICENSE").read_text()


def test_what_the_workflow_catalogue_asks(repo: Path) -> None:
    """Standardised usage: workflow/Snakefile, config/README.md and this file."""
    usage = yaml.safe_load((repo / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert any(usage["software-stack-deployment"].values())
    assert (repo / "workflow" / "Snakefile").is_file()
    assert any(block.kind == "yaml" for block in blocks(repo / "config" / "README.md"))
