"""Parent watch: a job ends with the process that started it, so a killed run stops writing.

SIGKILL is not passed on to children: the jobs of a killed Snakemake would run next to those of its
successor, and a pool's workers would wait forever for a dead process.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

log = logging.getLogger("slide2rna")
# The Snakefile sets this variable for all its jobs.
SNAKEMAKE = "SLIDE2RNA_SNAKEMAKE"
POLL_S = 0.5


def ancestors() -> list[int]:
    """Return the ids of the processes above this one, nearest first, as far as visible.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    pids = [os.getppid()]
    while pids[-1] > 1:
        try:
            with open(f"/proc/{pids[-1]}/stat", encoding="utf-8", errors="replace") as file:
                # State and parent follow the command name, which may hold spaces and parentheses.
                pids.append(int(file.read().rpartition(")")[2].split()[1]))
        except OSError:
            break
    return pids


def end_with_parent(pid: int | None = None) -> None:
    """Kill this process as soon as `pid` is not, or no longer, one of its ancestors.

    Parameters
    ----------
    pid
        By default the Snakemake that started this job; without one, nothing happens. A shell in
        between belongs to the chain: if only the shell is killed, Snakemake counts the job as
        finished.
    """
    pid = int(os.environ.get(SNAKEMAKE) or 0) if pid is None else pid
    if pid and os.path.isdir("/proc/self"):
        # A daemon, which doesn't keep a finished process alive.
        threading.Thread(target=_watch, args=(pid,), daemon=True).start()


def _watch(pid: int) -> None:
    while pid in ancestors():
        time.sleep(POLL_S)
    log.error("the parent process %d has ended; this process ends too", pid)
    os.kill(os.getpid(), signal.SIGKILL)
