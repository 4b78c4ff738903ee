"""Many dry runs in one go: Snakemake is imported once and forked per plan.

Reads a list of jobs as JSON from stdin and prints a JSON object per job. A job has `args` of
snakemake; `finish: true` makes up every output instead of running anything, and has Snakemake
record the jobs as done. Run in the folder that holds the results.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from snakemake import cli, workflow
from snakemake.executors import touch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from slide2rna.core import config


def make_up() -> None:
    """Have `--touch` make the outputs that aren't there, too."""
    run_job = touch.Executor.run_job

    def made(self: Any, job: Any) -> None:
        for path in job.output:
            path.touch_or_create()
        run_job(self, job)

    touch.Executor.SLEEPING_TIME = 0.0
    touch.Executor.run_job = made


def remember_parsed(folder: Path) -> None:
    """Parsing takes most of a plan's time: what it gives is kept for the next fork."""
    parse = workflow.parse

    def parsed(path: Any, flow: Any, linemap: dict[int, int], rulecount: int) -> tuple[str, int]:
        name = f"{path.get_path_or_uri(secret_free=True)} {rulecount}"
        file = folder / hashlib.sha256(name.encode()).hexdigest()
        if not file.is_file():
            code, count = parse(path, flow, linemap=linemap, rulecount=rulecount)
            file.write_text(json.dumps([code, count, list(linemap.items())]))
        code, count, lines = json.loads(file.read_text())
        linemap.update(lines)
        return code, count

    workflow.parse = parsed


def planned(text: str) -> list[str]:
    """`rule cohort` of each job that a dry run lists, without those that only collect."""
    found = []
    for block in re.split(r"\n(?=(?:local)?rule )", text)[1:]:
        name = re.match(r"(?:local)?rule (\w+):", block)
        output = re.search(r"^    output: (\S+)", block, re.M)
        if name and output:
            found.append(f"{name[1]} {output[1].split('/')[1]}")
    return found


def snakemake(args: list[str], finish: bool) -> tuple[int, str]:
    """Exit status and all that was printed."""
    with tempfile.TemporaryFile() as out:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            status = 1
            try:
                if finish:
                    make_up()
                cli.main(["--touch" if finish else "-n", *args])
            except SystemExit as error:
                status = error.code if isinstance(error.code, int) else 1
                if isinstance(error.code, str):
                    print(error.code, flush=True)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        return os.waitstatus_to_exitcode(status), out.read().decode()


def main() -> None:
    config.validate({"cohorts": {"any": {"source": "demo"}}})  # reads the schema, for all forks
    with tempfile.TemporaryDirectory() as folder:
        remember_parsed(Path(folder))
        for job in json.load(sys.stdin):
            status, text = snakemake(job["args"], job.get("finish", False))
            jobs = planned(text) if status == 0 else []
            print(json.dumps({"status": status, "jobs": jobs, "text": text[-3000:]}), flush=True)


if __name__ == "__main__":
    main()
