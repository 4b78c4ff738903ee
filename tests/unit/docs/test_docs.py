"""The documentation: links, generated pages, described columns, and files that others read."""

from __future__ import annotations

import re
import subprocess
from importlib import import_module
from pathlib import Path

import build_reference
import docstrings
import pytest
import rooms
import yaml
from doc_blocks import blocks
from slide2rna import __main__ as app
from slide2rna import __version__

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


# Modules that a recipe writes, and scripts of the published code.
ELSEWHERE = {"features.ours", "models.meanpool", "make_tables.py", "train.py"}


def test_every_module_that_a_page_names_is_there(repo: Path) -> None:
    """Dotted names below slide2rna, and paths of Python files in code."""
    package = repo / "scripts" / "slide2rna"
    there = rooms.modules(package).keys() | ELSEWHERE
    wrong, checked = [], 0
    for page in tracked(
        repo, "README.md", "CONTRIBUTING.md", "docs/*.md", "scripts/slide2rna/pages/templates/*"
    ):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"\bslide2rna\.([a-z_][\w.]*\w)", text):
            checked += 1
            # The last part may be a function or a class of the module.
            if not {name, name.rpartition(".")[0]} & there:
                wrong.append(f"{page.name}: slide2rna.{name}")
        for path in re.findall(r"`([\w./-]+\.py)`", text):
            checked += 1
            places = (repo / path, repo / "scripts" / path, package / path)
            dotted = path.removeprefix("scripts/slide2rna/").removesuffix(".py").replace("/", ".")
            if not any(place.is_file() for place in places) and not {path, dotted} & ELSEWHERE:
                wrong.append(f"{page.name}: {path}")
    assert not wrong
    assert checked >= 60


def test_the_changelog_says_where_each_module_is(repo: Path) -> None:
    """The table of the modules of 9510e7e: every place, and every name that it gives, is there."""
    text = (
        (repo / "CHANGELOG.md").read_text(encoding="utf-8").split("## Modules before the rooms")[1]
    )
    rows = re.findall(r"^\| (\S+) \| (\S+) \| ?(.*?) ?\|$", text, re.M)[1:]
    assert len(rows) > 180
    package = repo / "scripts" / "slide2rna"
    for old, now, changed in rows:
        folder = repo if now.startswith("docs/") else package
        assert (folder / f"{now}.py").is_file(), old
        for change in filter(None, changed.split(", ")):
            place, _, name = change.partition(" → ")[2].rpartition(".")
            moved = (package / f"{name}.py").is_file()
            source = package / f"{name if moved else place or now}.py"
            last = change.partition(" → ")[0] if moved else name
            assert re.search(rf"^(def|class) {last}\b", source.read_text(), re.M), (old, change)


def test_the_reference_is_what_the_generator_writes(repo: Path) -> None:
    """The README's graph, which needs Snakemake, has a test of its own."""
    pages = build_reference.reference_pages() | build_reference.drawn_pages()
    stale = [path.name for path, text in pages.items() if path.read_text("utf-8") != text]
    assert not stale, "run python docs/build_reference.py"
    assert len(pages) == 8


def test_every_step_is_in_the_reference(repo: Path) -> None:
    there = {path.stem for path in (repo / "scripts").glob("*.py")}
    assert there <= {*build_reference.STAGES, *app.NAMES}


def schema_of(target: str) -> list[str]:
    module, name = target.split(":")
    return list(getattr(import_module(f"slide2rna.{module}"), name))


def test_described_columns_are_those_of_the_code(repo: Path) -> None:
    record = yaml.safe_load((repo / "docs/reference/tables.yaml").read_text())
    checked = 0
    for table in record["tables"]:
        assert all(table.get("columns", {"": "x"}).values()), table["path"]
        if "schema" in table:
            columns = {*table["columns"], "protocol"}
            written = {*schema_of(table["schema"]), *table.get("also", []), "protocol"}
            shared = set(record["shared"]["columns"])
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
