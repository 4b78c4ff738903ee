"""The code blocks of the documentation: found as they stand, and followed like a person would."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"(?:^`(?P<path>[^`\n]+)`(?P<more>[^\n]*):\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the file that the line above names, its line."""

    kind: str
    text: str
    path: str | None
    line: int


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page in order.

    A block is a file's content if the paragraph above it is that file's name, with perhaps a few
    words after it, and a colon.
    """
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            match["kind"], match["text"], match["path"], text[: match.start("text")].count("\n") + 1
        )
        for match in BLOCK.finditer(text)
    ]


def follow(page: Path, repo: Path, path: str) -> str:
    """Do what a page says in a copy of the repository, block by block; what its commands printed.

    Files are written, diffs applied, shell blocks run with `path` before the others. Every block
    must be one of these, so that nothing on the page is left untried.
    """
    environment = os.environ | {
        "PATH": os.pathsep.join([path, *os.get_exec_path()]),
        "PYTHONPATH": str(repo / "scripts"),
        "OMP_NUM_THREADS": "1",
    }
    said = ""
    for block in blocks(page):
        where = f"{page.name} line {block.line}"
        if block.path is not None:
            target = repo / block.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
        elif block.kind in ("diff", "sh"):
            command = (
                ["git", "apply", "-"] if block.kind == "diff" else ["bash", "-euo", "pipefail"]
            )
            done = subprocess.run(
                command,
                cwd=repo,
                env=environment,
                input=block.text,
                capture_output=True,
                text=True,
                timeout=2400,
                check=False,
            )
            said += done.stdout + done.stderr
            assert done.returncode == 0, f"{where}:\n{block.text}\n{said[-4000:]}"
        else:
            raise AssertionError(f"{where}: a block of {block.kind or 'nothing'} that nobody tries")
    return said


def copy_of(repo: Path, target: Path) -> Path:
    """The repository's files as a person would clone them, uncommitted changes included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=repo,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source = repo / name
        if not source.is_file() or source.is_symlink():
            continue
        copied = target / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(source.read_bytes())
    return target
