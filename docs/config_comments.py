"""Comments of config.yaml, taken from the descriptions in its schema.

The comment of a key is the first sentence of its description, and the allowed values if they fit
into the line. Comments on lines of their own, and comments below `cohorts` and `ablations`, explain
the shipped values and are written by hand.
"""

from __future__ import annotations

import re
from typing import Any

KEY = re.compile(r"^( *)([a-z0-9_]+):(?: |$)")
COMMENT = re.compile(r"(?:^| +)# .*$")
SENTENCE_END = re.compile(r"(?<!e\.g)(?<!et al)(?<!Eq)\. ")
# Sections whose content is an example and not a list of keys with their defaults.
BY_HAND = ("cohorts", "ablations")
COLUMN, WIDTH = 25, 118


def commented(text: str, schema: dict[str, Any]) -> str:
    """Rewrite the comments of a configuration file from its schema."""
    lines, above = [], [("", schema)]
    for line in text.splitlines():
        key = KEY.match(line)
        if key is None or (key[1] and above[1:] and above[1][0] in BY_HAND):
            lines.append(line)
            continue
        depth = len(key[1]) // 2 + 1
        field = resolved(above[depth - 1][1]["properties"][key[2]], schema)
        above[depth:] = [(key[2], field)]
        lines.append(_line(COMMENT.sub("", line), field))
    return "\n".join(lines) + "\n"


def _line(value: str, field: dict[str, Any]) -> str:
    """Put a key's comment behind its value."""
    gap = " " * max(2, COLUMN - len(value))
    line = f"{value}{gap}# {SENTENCE_END.split(field['description'])[0].rstrip('.')}"
    allowed = field.get("enum", field.get("items", {}).get("enum", []))
    longer = f"{line}: {' | '.join(map(str, allowed))}"
    return longer if allowed and len(longer) <= WIDTH else line


def resolved(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Replace a reference by the field it names; keys beside the reference come first."""
    if "$ref" not in field:
        return field
    target: Any = schema
    for part in field["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return target | {key: value for key, value in field.items() if key != "$ref"}
