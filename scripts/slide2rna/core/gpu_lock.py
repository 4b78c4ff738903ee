"""GPU locks: on a machine with several GPUs, each job takes one that no other job holds.

A job locks a file named after its GPU until its process ends, however it ends. This module imports
nothing heavy, and the lock must come before the first CUDA call.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slide2rna.core.errors import DeviceError
from slide2rna.core.log import log

if TYPE_CHECKING:
    from filelock import FileLock

VISIBLE, DEVICE_ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
POLL_S, LOG_EVERY_S = 0.2, 60.0
QUERY_S = 60.0  # the first query after a boot loads the driver
# This process's lock, held until it ends.
_held: list[FileLock] = []


def list_gpus(text: str) -> list[str]:
    """Return the GPU names of `nvidia-smi -L`; a partitioned GPU (MIG) gives those of its parts.

    Examples
    --------
    >>> list_gpus("GPU 0: H100 (UUID: GPU-a)\\nGPU 1: H100 (UUID: GPU-b)")
    ['GPU-a', 'GPU-b']
    """
    names: list[str] = []
    for line in text.splitlines():
        match = re.search(r"\(UUID: ([^)\s]+)\)", line)
        if not match:
            continue
        if line[:1].isspace() and names and names[-1].startswith("GPU-"):
            names.pop()  # the whole GPU, which can't be used together with its parts
        names.append(match[1])
    return names


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that the scheduler shows this process; [] without a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        result = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=QUERY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return list_gpus(result.stdout) if result.returncode == 0 else []


def usable_gpus(there: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the GPUs that this process may use: by name, the value of CUDA_VISIBLE_DEVICES.

    Parameters
    ----------
    there
        Names of the machine's GPUs, in the order of their numbers.
    environment
        Its CUDA_VISIBLE_DEVICES, numbers or names, restricts the choice. As in CUDA, an entry
        that matches no GPU ends the list.
        https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars
    """
    visible = environment.get(VISIBLE)
    if visible is None:
        return {name: name for name in there}
    entries: dict[str, str] = {}
    for entry in (part.strip() for part in visible.split(",")):
        if re.fullmatch(r"\d+", entry):
            name = there[int(entry)] if int(entry) < len(there) else None
        else:
            name = next((name for name in there if entry and name.startswith(entry)), None)
        if name is None:
            break
        entries.setdefault(name, entry)
    return entries


def lock_gpu(folder: Path | None = None) -> str | None:
    """Lock a free GPU for this process and hide all others from CUDA; wait until one is free.

    CUDA then numbers GPUs as `nvidia-smi` does, by bus position. By default CUDA numbers the
    fastest first, and one number could mean two GPUs.

    If a scheduler or CUDA_VISIBLE_DEVICES=2 allows exactly one GPU, this process uses it without a
    lock: that choice was deliberate.

    Parameters
    ----------
    folder
        Folder of the locks; by default one of this user on this machine.

    Returns
    -------
    The new CUDA_VISIBLE_DEVICES; None without a GPU, and then the variable stays unchanged.

    Raises
    ------
    DeviceError
        The folder of the locks belongs to another user.
    """
    os.environ.setdefault(DEVICE_ORDER, "PCI_BUS_ID")
    visible = os.environ.get(VISIBLE)
    if _held or (visible is not None and "," not in visible):
        return visible or None
    free = usable_gpus(visible_gpus(), os.environ)
    if not free:
        return None
    place = _lock_folder() if folder is None else folder
    logged = -LOG_EVERY_S
    while True:
        for name, entry in free.items():
            if _lock(place / f"{name.replace('/', '_')}.lock"):
                os.environ[VISIBLE] = entry
                log.info("device: %s, one of %d", name, len(free))
                return entry
        if time.monotonic() - logged >= LOG_EVERY_S:
            logged = time.monotonic()
            gpus = "1 GPU" if len(free) == 1 else f"{len(free)} GPUs, all"
            log.info(
                "%s in use by your other jobs: waiting (set %s=0 to share GPU 0)", gpus, VISIBLE
            )
        time.sleep(POLL_S)


def _lock(path: Path) -> bool:
    """Lock a file until this process ends; return False if another process has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    path.touch()  # protects the file from deletion for days
    _held.append(lock)
    return True


def _lock_folder() -> Path:
    """Return this user's folder on the machine's local disk; TMPDIR may differ by job."""
    folder = Path(f"/tmp/slide2rna-gpus-{os.getuid()}")
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
    try:
        status = folder.lstat()
        usable = status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode)
    except OSError:
        usable = False
    if not usable:
        cause = "GPUs can't be locked: this folder is missing or belongs to another user"
        raise DeviceError(folder, cause, f"remove it, or set {VISIBLE} to one GPU")
    return folder
