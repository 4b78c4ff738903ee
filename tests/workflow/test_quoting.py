"""Commands of a planned run: a strange results folder stays one word in each of them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from job_graph import snakemake

FOLDER = "re s$(touch pwned)`touch pwned`'; \"&x"


def test_every_command_takes_the_folder_as_a_word(repo: Path, tmp_path: Path) -> None:
    results = tmp_path / FOLDER
    done = snakemake(repo, results, "-n", "-p")
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"^ *(?:Shell command: )?(python \S*scripts/.*)$", done.stdout, re.M)
    assert len(commands) >= 30
    for command in commands:
        words = shlex.split(command)
        strange = [word for word in words if "pwned" in word]
        assert strange, command
        # As a path, or inside the JSON of a section.
        inside = json.dumps(str(results))[1:-1]
        assert all(word.startswith(str(results)) or inside in word for word in strange), command
        assert "touch" not in words


def test_braces_are_refused_in_a_line(repo: Path, tmp_path: Path) -> None:
    done = snakemake(repo, tmp_path / "r{x}", "-n")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "holds a brace" in said
    assert "Traceback" not in said
