"""Free memory: of the machine, within the limits of the job's control group and process."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil

# Limit and use of a control group, version 2 and version 1.
GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def free_bytes() -> int:
    """Return the bytes that this process may still take."""
    free = [int(psutil.virtual_memory().available)]
    for limit, used in GROUPS:
        try:
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY:
        free.append(space - int(psutil.Process().memory_info().vms))
    return max(0, min(free))
