"""Every command and every piece of configuration in the documentation, tried as it stands."""

from __future__ import annotations

import argparse
import ast
import re
import runpy
import shlex
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import build_reference
import mermaid
import pytest
import yaml
from doc_blocks import Block, blocks
from slide2rna import __main__ as app
from slide2rna.core import config
from snakemake_server import dry_run

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([REPO / "README.md", REPO / "CONTRIBUTING.md", *REPO.glob("docs/*/*.md")])
PAGES += [REPO / "config" / "README.md"]
PAGES = [page for page in PAGES if page.parent.name != "reference"]
# What is no command of this project.
OTHERS = (".", "find", "pip", "mkdir", "cp", "rsync", "export", "sbatch", "srun")
# Of the demo: first slides of its patients, and the slide that is in no table.
SLIDES = r"results/demo/source/(slides/DEMO-(0\d\d|1[01]\d)-S1|new/NEW-001-S1)\.svs"
INLINE = re.compile(r"(?<!`)`(make|slide2rna|snakemake) ([^`\n]+)`")


def lines(page: Path) -> list[list[str]]:
    """Command lines of a page's shell blocks, split into words, without comments."""
    found = []
    for block in blocks(page):
        open_text = ""
        for line in block.text.splitlines() if block.kind == "sh" else ():
            # A quoted program goes over several lines and is one word.
            open_text += line if open_text else re.sub(r"(^|\s)#.*", "", line)
            if open_text.endswith("\\"):
                open_text = open_text[:-1]
            elif any(open_text.count(quote) % 2 for quote in "\"'"):
                open_text += "\n"
            else:
                found += [words] if (words := shlex.split(open_text)) else []
                open_text = ""
        assert not open_text, f"{name(page)} line {block.line}: an open quote"
    return found


def of(program: str) -> list[tuple[Path, list[str]]]:
    return [(page, words[1:]) for page in PAGES for words in lines(page) if words[0] == program]


def name(value: object) -> str:
    return str(value.relative_to(REPO)) if isinstance(value, Path) else ""


def test_nothing_is_overlooked() -> None:
    first = {words[0] for page in PAGES for words in lines(page)}
    assert first <= {"make", "snakemake", "slide2rna", "python", *OTHERS}
    counts = {program: len(of(program)) for program in ("make", "snakemake", "slide2rna", "python")}
    assert min(counts.values()) >= 4, counts


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (REPO / "Makefile").read_text(), re.M))


def test_make_targets_are_there() -> None:
    for page, words in of("make"):
        assert {word for word in words if "=" not in word} <= targets(), name(page)


def test_commands_in_sentences_are_there() -> None:
    rules = set()
    for path in REPO.glob("workflow/rules/*.smk"):
        rules |= set(re.findall(r"^rule (\w+):", path.read_text(), re.M))
    known = rules | {"mine", "LUAD", "BRCA", "demo", "law", "her2st"}
    for page in PAGES:
        for program, rest in INLINE.findall(page.read_text(encoding="utf-8")):
            word = rest.split()[0]
            if program == "make":
                assert word in targets() | {".venv/.ready"}, (name(page), rest)
            elif program == "slide2rna":
                assert word in app.NAMES or word.startswith("-"), (name(page), rest)
            else:
                assert word in known or word.startswith("-"), (name(page), rest)


class Parsed(Exception):
    """The arguments were understood."""


def parses(main: Callable[[Sequence[str]], None], words: list[str]) -> None:
    """Call a command with its arguments, and stop it once they are parsed."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *given: Any, **named: Any) -> None:
        parse(self, *given, **named)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Parsed):
            main(words)


def test_arguments_of_slide2rna_are_understood() -> None:
    for _, (command, *words) in of("slide2rna"):
        parses(import_module(f"slide2rna.commands.{command}").main, words)


def test_what_examples_name_is_in_the_demo() -> None:
    """Whoever has run the demo can run the examples that use its model."""
    genes = (REPO / "resources" / "demo" / "demo_genes.tsv").read_text().split()
    for page, words in of("slide2rna"):
        if "--genes" in words and "results/demo" in words:
            assert set(words[words.index("--genes") + 1].split(",")) <= set(genes), (page, words)
        for word in words:
            if word.startswith("results/demo/source/"):
                assert re.fullmatch(SLIDES, word), word


def test_arguments_of_scripts_are_understood() -> None:
    for page, words in of("python"):
        if words[0] == "-c":
            compile(words[1], str(page), "exec")
        elif words[:2] == ["-m", "pytest"]:
            paths = [word for word in words[2:] if word.startswith("tests/")]
            assert all((REPO / path.split("::")[0]).exists() for path in paths), (page, words)
        elif words[0].startswith("scripts/") and "..." not in words:
            parses(runpy.run_path(str(REPO / words[0]))["main"], words[1:])
        else:
            named = {block.path for block in blocks(page)}
            assert (REPO / words[0]).is_file() or words[0] in named, (page, words)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two configuration files, as Snakemake merges them."""
    deep = {
        key: merged(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict)
    }
    return below | above | deep


def test_python_on_the_pages_can_be_imported() -> None:
    """Recipes are run by a test of their own; of other blocks the imports are, and names called."""
    tried = 0
    for page in PAGES:
        for block in blocks(page):
            if block.kind != "python" or block.path is not None:
                continue
            tree = ast.parse(block.text)
            found: dict[str, Any] = {}
            imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), str(page), "exec"), found)
            for call in ast.walk(tree):
                if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name):
                    owner = found.get(call.value.id)
                    assert owner is None or hasattr(owner, call.attr), (name(page), call.attr)
            tried += 1
    assert tried >= 2


def configured(block: Block) -> dict[str, Any]:
    """A block as the file that it belongs to; a piece of a cohort's settings has its head cut."""
    found = yaml.safe_load(block.text)
    return {"cohorts": {"any": {"source": "demo", **found}}} if "settings" in found else found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_configuration_is_valid(page: Path) -> None:
    """Blocks add to the shipped file; together with a page's earlier blocks they are whole."""
    so_far = yaml.safe_load((REPO / "config.yaml").read_text())
    for block in blocks(page):
        if block.kind == "yaml":
            found = configured(block)
            for cohort in found.get("cohorts", {}).values():
                # A recipe that builds on another page's cohort gives only what differs.
                cohort.setdefault("source", "demo")
            so_far = merged(so_far, found)
            for pair in so_far.get("external", []):
                assert set(pair.values()) <= set(so_far["cohorts"])
            # Networks that a recipe adds aren't in the schema.
            if "meanpool" not in block.text:
                config.validate(so_far, f"{name(page)} line {block.line}")


def workplace(page: Path, folder: Path) -> Path:
    """A folder in which a page's Snakemake lines can be planned: its files, and what they name."""
    config_file = yaml.safe_load((REPO / "config.yaml").read_text())
    (folder / "tests").mkdir()
    (folder / "tests" / "config").symlink_to(REPO / "tests" / "config")
    for source in [*PAGES, page]:  # the page's own files last
        for block in blocks(source):
            if block.kind == "yaml" and block.path is not None:
                (folder / block.path).write_text(block.text)
    for block in [*blocks(REPO / "README.md"), *blocks(page)]:
        if block.kind == "yaml" and block.path is None and "cohorts:" in block.text:
            config_file = merged(config_file, configured(block))
    if page.name == "README.md":  # `snakemake external` wants a pair, as its line says
        config_file["external"] = [{"train": "LUAD", "test": "mine"}]
    (folder / "config.yaml").write_text(yaml.safe_dump(config_file))
    named = [*config_file["cohorts"].values(), *_cohorts_of(folder)]
    for cohort in named:
        for key in ("sheet", "expression", "splits", "published_splits"):
            if cohort.get(key, "published") != "published":
                (folder / cohort[key]).parent.mkdir(exist_ok=True)
                (folder / cohort[key]).touch()
    return folder


def _cohorts_of(folder: Path) -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")]
    return [cohort for file in files for cohort in file.get("cohorts", {}).values()]


def plans(page: Path) -> list[list[str]]:
    """A page's Snakemake lines; those that differ in their targets alone are one."""
    grouped = defaultdict(list)
    for where, words in of("snakemake"):
        if where != page or "--forcerun" in words or "--unlock" in words:
            continue
        options, wanted, rest = [], [], list(words)
        while rest:
            word = rest.pop(0)
            if word == "--configfile":
                options.append(word)
                while rest and rest[0].endswith(".yaml"):
                    options.append(rest.pop(0))
            elif word == "--workflow-profile":
                options += [word, str(REPO / "profiles" / rest.pop(0))]
            elif word == "--cores":
                rest.pop(0)
            elif word in ("--config", "--rerun-triggers"):
                options.append(word)
                while rest and not rest[0].startswith("-"):
                    options.append(rest.pop(0))
            elif word in ("-n", "--", "--use-conda", "--conda-create-envs-only"):
                continue  # conda has tests of its own
            else:
                assert not word.startswith("-"), f"{name(page)}: {word}: teach the test"
                wanted.append(word)
        grouped[tuple(options)] += wanted or ["all"]
    # Networks that a recipe adds aren't in the schema; the recipe's own test runs them.
    return [
        [*options, "--", *sorted(set(wanted))]
        for options, wanted in grouped.items()
        if not {"meanpool.yaml", "ours.yaml"} & set(options)
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if plans(page)], ids=name)
def test_snakemake_plans_what_is_written(page: Path, tmp_path: Path) -> None:
    folder = workplace(page, tmp_path)
    for plan in plans(page):
        snakefile = ["--snakefile", str(REPO / "Snakefile"), "--directory", str(folder)]
        done = dry_run(folder, "-n", "-q", "--cores", "2", *snakefile, *plan)
        assert done.returncode == 0, f"{plan}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def test_forced_rules_are_there() -> None:
    rules = {
        rule
        for path in REPO.glob("workflow/rules/*.smk")
        for rule in re.findall(r"^rule (\w+):", path.read_text(), re.M)
    }
    for _, words in of("snakemake"):
        if "--forcerun" in words:
            assert words[words.index("--forcerun") + 1] in rules


def test_the_rule_graph_is_what_snakemake_plans() -> None:
    planned = set(mermaid.reduced(build_reference.rule_edges()))
    page = (REPO / "README.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^ +(\w+) --> (\w+)$", page, re.M)
    assert set(drawn) == planned, "run python docs/build_reference.py"
    assert len(drawn) == len(planned) >= 15
