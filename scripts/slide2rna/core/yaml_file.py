"""YAML files: their text, and keys that YAML readers would misread without a word."""

from __future__ import annotations

from pathlib import Path

import yaml

from slide2rna.core.errors import ConfigError


def read_text(path: str | Path) -> str:
    """Read a YAML file's text.

    Raises
    ------
    ConfigError
        The file is missing or isn't UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        cause = f"it isn't UTF-8 text (byte {error.start})"
        raise ConfigError(path, cause, "save it as UTF-8") from error
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise ConfigError(path, cause, "give a readable YAML file") from error


def check_keys(path: str | Path) -> None:
    """Refuse a YAML file with a duplicate key, or one that YAML doesn't read as text.

    Readers keep the last of two equal keys silently (keys must be unique:
    https://yaml.org/spec/1.2.2/, 3.2.1.1), and take NO for false and 2024 for a number.

    Raises
    ------
    ConfigError
        Names the key and its line; or the file isn't YAML.
    """
    try:
        pending = [yaml.compose(read_text(path), Loader=yaml.SafeLoader)]
    except yaml.YAMLError as error:
        raise ConfigError(path, str(error), "give a readable YAML file") from error
    met: set[int] = set()  # aliases may lead to one node many times
    while pending:
        node = pending.pop()
        if id(node) in met:
            continue
        met.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                where = f"{path} line {key.start_mark.line + 1}"
                if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                    kind = key.tag.rpartition(":")[2]
                    cause = f"YAML reads the key {key.value} as a value of type {kind}"
                    raise ConfigError(where, cause, f'write it in quotes: "{key.value}"')
                if str(key.value) in seen:
                    cause = f"the key '{key.value}' occurs twice"
                    raise ConfigError(where, cause, "keep one of them, or merge the two")
                seen.add(str(key.value))
                pending.append(value)
