"""Many dry runs in one go: Snakemake is imported once and forked per plan.

Reads a list of jobs as JSON from stdin and prints a JSON object per job. A job has `args` of
snakemake; `finish: true` makes up every output instead of running anything, and has Snakemake
record the jobs as done. Run in the folder that holds the results.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from typing import Any

from snakemake import cli
from snakemake.executors import touch


def make_up() -> None:
    """Have `--touch` make the outputs that aren't there, too."""
    run_job = touch.Executor.run_job

    def made(self: Any, job: Any) -> None:
        for path in job.output:
            path.touch_or_create()
        run_job(self, job)

    touch.Executor.SLEEPING_TIME = 0.0
    touch.Executor.run_job = made


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
    for job in json.load(sys.stdin):
        status, text = snakemake(job["args"], job.get("finish", False))
        jobs = planned(text) if status == 0 else []
        print(json.dumps({"status": status, "jobs": jobs, "text": text[-3000:]}), flush=True)


if __name__ == "__main__":
    main()
