"""A job ends with the process that started it, so that no killed run writes on.

SIGKILL leaves nobody to pass it on: without this, the jobs of a killed Snakemake would go on beside
those of the next one, and a pool's workers would wait for ever for a process that is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

log = logging.getLogger("slide2rna")
# Set by the Snakefile, in the environment of all its jobs.
SNAKEMAKE = "SLIDE2RNA_SNAKEMAKE"
EVERY_S = 0.5


def ancestors() -> list[int]:
    """Ids of the processes above this one, nearest first, as far as they can be seen.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    found = [os.getppid()]
    while found[-1] > 1:
        try:
            with open(f"/proc/{found[-1]}/stat", encoding="utf-8", errors="replace") as file:
                # After the command's name, which may hold spaces and parentheses: state, parent.
                found.append(int(file.read().rpartition(")")[2].split()[1]))
        except OSError:
            break
    return found


def end_with_parent(pid: int | None = None) -> None:
    """Kill this process as soon as `pid` isn't, or is no more, one of its ancestors.

    Parameters
    ----------
    pid
        By default the Snakemake that started this job; nothing happens where none did. A shell in
        between belongs to the chain: if that alone is killed, Snakemake takes the job for ended.
    """
    pid = int(os.environ.get(SNAKEMAKE) or 0) if pid is None else pid
    if pid and os.path.isdir("/proc/self"):
        # A daemon, since it must not keep alive what has nothing left to do.
        threading.Thread(target=_watch, args=(pid,), daemon=True).start()


def _watch(pid: int) -> None:
    while pid in ancestors():
        time.sleep(EVERY_S)
    log.error("process %d, which started this, is gone; this ends, too", pid)
    os.kill(os.getpid(), signal.SIGKILL)
