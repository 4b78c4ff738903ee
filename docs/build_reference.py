"""Generated documentation: docs/reference, the README's rule graph, comments of config.yaml.

python docs/build_reference.py            write what has changed
python docs/build_reference.py --check    name what is stale, exit status 1
"""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import command_help
import docstrings
import encoder_rows as rows
import rooms
import yaml
from config_comments import commented, resolved
from mermaid import flowchart, reduced
from slide2rna import __main__ as app
from slide2rna.cohort import sheet
from slide2rna.core import cli, config, log
from slide2rna.core.files import write_text

REPO = Path(__file__).resolve().parents[1]
FOLDER = REPO / "docs" / "reference"
ENCODERS = REPO / "docs" / "how-to" / "encoders.md"
ARCHITECTURE = REPO / "docs" / "explanation" / "architecture.md"
# Steps that Snakemake runs, in the order of the flow; commands for use by hand are listed first.
STAGES = (
    *("demo", "split", "download", "tile", "weights", "extract", "consume", "bag"),
    *("pathways", "train", "sample", "evaluate", "shift", "stain", "ablations"),
    *("samplers", "leak_audit", "external", "package", "export"),
    "report",
)
# Public and stable: module and names.
API = {
    "core.config": "load validate for_cohort defaults",
    "cohort.sheet": "read_sheet",
    "cohort.expression": "read_expression",
    "slides.reader": "open_slide Slide",
    "slides.tiles": "tile_slide Tiling",
    "features.registry": "Encoder load",
    "features.encode": "extract read_tile",
    "features.feature_file": "Features read write read_attributes",
    "features.clusters": "cluster",
    "pathways.build": "build_pathways",
    "pathways.membership": "read_pathways Pathways",
    "models.checkpoint": "load_model",
    "sampling.draw": "noise draw point",
    "evaluation.uncertainty.conformal": "order attainable interval",
    "studies.shift.reference": "load TrainingReference",
    "pathways.activity": "scoring_method",
    "package.predictor": "load Predictor",
    "predict.encode_slide": "encode_slide EncodedSlide",
    "predict.predict": "predict Prediction",
    "predict.anndata_export": "run_to_anndata prediction_to_anndata",
    "published.convert": "to_folder to_file",
    "core.errors": "UserError",
}


ABOUT_CONFIG = """\
All keys of `config.yaml`. A missing key takes its default; an unknown key stops the run with a
message that names it. `cohorts.<name>.settings` may repeat any section, for that cohort only."""
ABOUT_SHEET = """\
One row per slide, as TSV, or as CSV with commas or semicolons, with a header line. Other columns
are ignored, and the log lists them. In optional columns an empty cell or NA means unknown."""
ABOUT_COMMANDS = """\
Commands for use by hand, followed by the steps that Snakemake runs. Steps take a section of the
configuration as JSON. Exit status: 0 success; 1 a check failed, or some of many items failed; 2 an
error that one line on stderr explains; 130 Ctrl-C."""
ABOUT_TABLES = """\
Tables under `results/<cohort>/`, and at the end those that `slide2rna predict` and `maps` write.
They are Parquet unless the name says otherwise. Braces stand for several columns."""
ABOUT_MODULES = """\
All modules of `scripts/slide2rna`, room by room in the order of
[the architecture](../explanation/architecture.md), and the modules that each script calls.
"""
ABOUT_API = """\
Everything that can be imported from `slide2rna`, with `scripts/` on the path or after
`pip install -e .`. The rest of the package may change without notice. Expression is
log2(FPKM-UQ + 1) everywhere."""


def pages() -> dict[Path, str]:
    """Return every generated file with its text."""
    readme = REPO / "README.md"
    graph = flowchart(reduced(rule_edges()))
    text = inserted(readme.read_text(encoding="utf-8"), "rule graph", graph)
    return reference_pages() | drawn_pages() | configuration() | {readme: text}


def reference_pages() -> dict[Path, str]:
    """Return the pages of docs/reference."""
    texts = {
        "config.md": config_page(),
        "sheet.md": sheet_page(),
        "commands.md": commands_page(),
        "tables.md": tables_page(),
        "api.md": api_page(),
        "modules.md": _head("Modules", "docstrings and imports", ABOUT_MODULES) + rooms.listing(),
    }
    return {FOLDER / name: f"{text.rstrip()}\n" for name, text in texts.items()}


def drawn_pages() -> dict[Path, str]:
    """Return the pages of the architecture and of the encoders with their tables."""
    page = inserted(ARCHITECTURE.read_text(encoding="utf-8"), "table of rooms", rooms.table())
    encoders = inserted(ENCODERS.read_text(encoding="utf-8"), "table of encoders", rows.tiles())
    encoders = inserted(encoders, "table of slide encoders", rows.slides())
    return {ARCHITECTURE: inserted(page, "picture of rooms", rooms.picture()), ENCODERS: encoders}


def configuration() -> dict[Path, str]:
    """Return config.yaml with comments from its schema."""
    path, schema = REPO / "config.yaml", yaml.safe_load(config.SCHEMA.read_text(encoding="utf-8"))
    return {path: commented(path.read_text(encoding="utf-8"), schema)}


def inserted(page: str, name: str, text: str) -> str:
    """Put `text` between the two comments of a page that name it."""
    start, end = f"<!-- {name}: written by docs/build_reference.py -->", f"<!-- end of {name} -->"
    head, rest = page.split(start)
    return head + start + text + end + rest.split(end)[1]


def _head(title: str, source: str, about: str) -> str:
    return f"# {title}\n\n<!-- Written by docs/build_reference.py from {source}. -->\n\n{about}\n"


def config_page() -> str:
    """List the keys of config.yaml with allowed values, default and description."""
    schema = yaml.safe_load(config.SCHEMA.read_text(encoding="utf-8"))
    parts = [_head("config.yaml", "workflow/schemas/config.schema.yaml", ABOUT_CONFIG)]
    properties = schema["properties"]
    single = {k: v for k, v in properties.items() if "properties" not in resolved(v, schema)}
    parts.append(_keys("Top level", single, schema))
    cohort = schema["$defs"]["cohort"]["properties"]
    named = {k: v for k, v in cohort.items() if k != "settings"}
    parts.append(_keys("cohorts.&lt;name&gt;", named, schema))
    for name, field in properties.items():
        if name not in single:
            section = resolved(field, schema)
            about = section["description"].replace("<", "&lt;")
            parts.append(_keys(name, section["properties"], schema, about))
    return "\n".join(parts)


def _keys(title: str, fields: dict[str, Any], schema: dict[str, Any], about: str = "") -> str:
    head = [f"## {title}\n"] + [f"{about}\n"] * bool(about)
    rows = [*head, "| key | allowed | default | |", "|---|---|---|---|"]
    rows += [_row(*row) for row in _flat(fields, schema, "")]
    return "\n".join(rows) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _flat(
    fields: dict[str, Any], schema: dict[str, Any], prefix: str
) -> Iterator[tuple[str, str, str, str]]:
    for key, raw in fields.items():
        field = resolved(raw, schema)
        about = field.get("description", "").replace("<", "&lt;")
        if inner := field.get("properties"):
            yield f"`{prefix}{key}`", "an object", "", about
            yield from _flat(inner, schema, f"{prefix}{key}.")
            continue
        yield f"`{prefix}{key}`", _allowed(field), _default(field), about


def _default(field: dict[str, Any]) -> str:
    """Format a default as it is written in the file."""
    if "default" not in field:
        return ""
    text = yaml.safe_dump(field["default"], default_flow_style=True, width=10**6)
    return f"`{text.strip().removesuffix('...').strip()}`"


def _allowed(field: dict[str, Any]) -> str:
    """Describe the allowed values in words."""
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kinds = field.get("type", "anything")
    words = {"array": "list", "object": "an object", "string": "text", "integer": "whole number"}
    names = [kinds] if isinstance(kinds, str) else kinds
    text = " or ".join(words.get(name, name) for name in names)
    if "array" in names and "enum" in field.get("items", {}):
        text += " of " + ", ".join(f"`{value}`" for value in field["items"]["enum"])
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[name]}" for name, sign in bounds.items() if name in field]
    return f"{text} {', '.join(limits)}".strip()


def sheet_page() -> str:
    """List the columns of a sample sheet."""
    schema = yaml.safe_load(sheet.SCHEMA.read_text(encoding="utf-8"))
    parts = [_head("The sample sheet", "workflow/schemas/samples.schema.yaml", ABOUT_SHEET)]
    parts += ["| column | needed | pattern | |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        needed = "yes" if name in schema["required"] else ""
        pattern = f"`{field['pattern']}`" if "pattern" in field else _allowed(field)
        parts.append(_row(f"`{name}`", needed, pattern, field["description"]))
    return "\n".join(parts)


def commands_page() -> str:
    """Collect the --help of every command."""
    parts = [
        _head("Commands", "--help", ABOUT_COMMANDS),
        "## slide2rna\n",
        command_help.block(app.help_text()),
    ]
    for name in app.NAMES:
        if (app.FOLDER / f"{name}.py").is_file():
            module = import_module(f"slide2rna.commands.{name}")
            parts += [
                f"## slide2rna {name}\n",
                command_help.block(command_help.of(f"slide2rna {name}", module.main)),
            ]
    parts.append("## Steps of the workflow\n")
    for name in STAGES:
        path = REPO / "scripts" / f"{name}.py"
        if path.is_file():
            main = runpy.run_path(str(path))["main"]
            text = command_help.of(f"scripts/{name}.py", main)
            parts += [f"### scripts/{name}.py\n", command_help.block(text)]
            parts += [
                command_help.block(command_help.of(f"scripts/{name}.py", main, step))
                for step in command_help.steps(text)
            ]
    return "\n".join(parts)


def tables_page() -> str:
    """Describe the tables under results/<cohort>/, column by column."""
    parts = [_head("Tables", "docs/reference/tables.yaml", ABOUT_TABLES)]
    described = yaml.safe_load((FOLDER / "tables.yaml").read_text(encoding="utf-8"))
    parts += ["## Shared columns\n", f"{described['shared']['about']}\n"]
    for table in [described["shared"], *described["tables"], *described["elsewhere"]]:
        if "path" in table:
            parts += [f"## {table['path'].replace('<', '&lt;').replace('>', '&gt;')}\n"]
            parts += [f"{table['about']}\n"]
        if columns := table.get("columns"):
            rows = [_row(f"`{name}`", text) for name, text in columns.items()]
            parts += ["\n".join(["| column | |", "|---|---|", *rows]) + "\n"]
    return "\n".join(parts)


def api_page() -> str:
    """Document the public functions and classes from their docstrings."""
    parts = [_head("Python interface", "docstrings", ABOUT_API)]
    for module, names in API.items():
        parts.append(docstrings.module(REPO / "scripts", f"slide2rna.{module}", names.split()))
    return "\n".join(parts)


def rule_edges() -> set[tuple[str, str]]:
    """Return dependencies between rules in the plan of the shipped configuration."""
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "mermaid-js", "--quiet", "all"]
    settings = ["--nolock", "--forceall", "--config", "results=results", "--", "all"]
    printed = subprocess.run(
        [*command, *settings], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", printed))
    return {(names[a], names[b]) for a, b in re.findall(r"(id\d+) --> (id\d+)", printed)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args(argv)
    stale = 0
    for path, text in pages().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        log.log.info("%s: %s", path.relative_to(REPO), "stale" if args.check else "written")
        if not args.check:
            write_text(text, path)
    if args.check and stale:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main, stage=False)
