"""Docstrings as Markdown: numpydoc's sections, read from the source without importing it."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

Definition = ast.FunctionDef | ast.ClassDef
UNDERLINE = re.compile(r"-{3,}")


def module(folder: Path, module: str, names: Sequence[str]) -> str:
    """Return a module's first paragraph and its named functions and classes as Markdown.

    Raises
    ------
    KeyError
        A name isn't there, or has no docstring.
    """
    path = folder.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    there = {node.name: node for node in tree.body if isinstance(node, Definition)}
    about = (ast.get_docstring(tree) or "").split("\n\n")[0]
    parts = [f"## {module}\n", f"{about}\n"]
    for name in names:
        if name not in there or not ast.get_docstring(there[name]):
            raise KeyError(f"{module}.{name} isn't there, or has no docstring")
        parts.append(_definition(there[name], path.stem, "###"))
    return "\n".join(parts)


def _definition(node: Definition, owner: str, level: str) -> str:
    parts = [f"{level} {owner}.{node.name}\n", f"```python\n{_signature(node)}\n```\n"]
    parts.append(markdown(ast.get_docstring(node) or ""))
    if isinstance(node, ast.ClassDef):
        methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]
        # Methods without a docstring are described by their class.
        parts += [
            _definition(inner, node.name, f"{level}#")
            for inner in methods
            if not inner.name.startswith("_") and ast.get_docstring(inner)
        ]
    return "\n".join(parts)


def _signature(node: Definition) -> str:
    """Return the first line of a definition as code, one argument per line if it is long."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        fields = [
            f"    {ast.unparse(line)}"
            for line in node.body
            if isinstance(line, ast.AnnAssign) and not ast.unparse(line.target).startswith("_")
        ]
        return "\n".join([f"class {node.name}{f'({bases})' if bases else ''}:", *fields])
    back = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"def {node.name}({ast.unparse(node.args)}){back}"
    if len(line) <= 96:
        return line
    signature = node.args
    plain = [*signature.posonlyargs, *signature.args]
    defaults = [None] * (len(plain) - len(signature.defaults)) + list(signature.defaults)
    arguments = [_argument(a, d) for a, d in zip(plain, defaults, strict=True)]
    if signature.kwonlyargs:
        arguments += ["*"]
        pairs = zip(signature.kwonlyargs, signature.kw_defaults, strict=True)
        arguments += [_argument(a, d) for a, d in pairs]
    return "\n".join([f"def {node.name}(", *(f"    {a}," for a in arguments), f"){back}"])


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    equals = " = " if kind else "="
    return f"{argument.arg}{kind}{f'{equals}{ast.unparse(default)}' if default else ''}"


def markdown(text: str) -> str:
    """Convert a numpydoc docstring: section names become bold, their entries a list."""
    lines, out, section = text.splitlines(), [], ""
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if UNDERLINE.fullmatch(line.strip()):
            continue
        if line and UNDERLINE.fullmatch(below.strip()):
            section = line.strip()
            out += [f"**{section}**", ""]
        elif not section or not line.strip() or section == "Notes":
            out.append(line)
        elif line[0] != " ":
            name, _, rest = line.partition(" : ")
            out.append(f"- `{name}`{f': {rest}' if rest else ''}")
        else:
            out.append(f"  {line.strip()}")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip() + "\n"
