"""Dry runs of Snakemake as a user gets them, without its start: imported once, forked per call.

`dry_run` calls this file as a program, which reads a JSON line per call and answers with one.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path


def dry_run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call `snakemake` with these words in a folder; `-n` must be one of them."""
    assert "-n" in words
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps({"folder": str(folder), "words": words}) + "\n")
    server.stdin.flush()
    answer = json.loads(server.stdout.readline())
    return subprocess.CompletedProcess(words, **answer)


@cache
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, __file__]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    atexit.register(server.stdin.close)
    return server


def call(folder: str, words: list[str]) -> dict[str, object]:
    """Exit status and both streams of one call."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.chdir(folder)
            for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
                os.dup2(file if isinstance(file, int) else file.fileno(), number)
            status = 1
            try:
                status = run(words)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
        code = os.waitstatus_to_exitcode(status)
        return {"returncode": code, "stdout": texts[0], "stderr": texts[1]}


def run(words: list[str]) -> int:
    """The exit status; what ends Python in other ways is printed as Python does."""
    from snakemake import cli

    try:
        cli.main(words)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    import dry_runs
    from slide2rna.core import config

    config.validate({"cohorts": {"any": {"source": "demo"}}})  # reads the schema, for all forks
    with tempfile.TemporaryDirectory() as folder:
        dry_runs.remember_parsed(Path(folder))
        for line in sys.stdin:
            print(json.dumps(call(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
