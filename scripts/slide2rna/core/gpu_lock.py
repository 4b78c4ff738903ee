"""One GPU per job: on a machine with several, each job takes one that no other job has.

A job holds a lock on a file of its GPU until its process ends, however it ends. Nothing heavy is
imported here, and CUDA must not have been asked for anything before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from slide2rna.core.errors import DeviceError
from slide2rna.core.log import log

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
POLL_S, TELL_S = 0.2, 60.0
QUERY_S = 60.0  # the first query after a boot loads the driver
# The lock of this process, open as long as it runs.
_held: list[int] = []


def list_gpus(text: str) -> list[str]:
    """Names that `nvidia-smi -L` gives; of a GPU that is cut up (MIG), those of its parts.

    Examples
    --------
    >>> listed("GPU 0: H100 (UUID: GPU-a)\\nGPU 1: H100 (UUID: GPU-b)")
    ['GPU-a', 'GPU-b']
    """
    found: list[str] = []
    for line in text.splitlines():
        name = re.search(r"\(UUID: ([^)\s]+)\)", line)
        if not name:
            continue
        if line[:1].isspace() and found and found[-1].startswith("GPU-"):
            found.pop()  # the whole, which can't be used beside its parts
        found.append(name[1])
    return found


def visible_gpus() -> list[str]:
    """Names of this machine's GPUs that its scheduler lets this process see; none, no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=QUERY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return list_gpus(done.stdout) if done.returncode == 0 else []


def choices(there: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """What this process may use: by the GPU's own name, what the variable is to say.

    Parameters
    ----------
    there
        Names of the machine's GPUs, in the order of their numbers.
    environment
        Its CUDA_VISIBLE_DEVICES, numbers or names, comes first. As CUDA does, what comes after
        an entry that there isn't doesn't count.
        https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars
    """
    given = environment.get(VISIBLE)
    if given is None:
        return {name: name for name in there}
    found: dict[str, str] = {}
    for entry in (part.strip() for part in given.split(",")):
        if re.fullmatch(r"\d+", entry):
            name = there[int(entry)] if int(entry) < len(there) else None
        else:
            name = next((name for name in there if entry and name.startswith(entry)), None)
        if name is None:
            break
        found.setdefault(name, entry)
    return found


def lock_gpu(folder: Path | None = None) -> str | None:
    """Take a free GPU for this process and let CUDA see no other; waits until one is free.

    CUDA then numbers GPUs as `nvidia-smi` does, by their place on the bus; by default it begins
    with the fastest, and a number would mean two GPUs.

    A process that was given exactly one (by a scheduler, or by CUDA_VISIBLE_DEVICES=2) takes it
    as it is: whoever gave it knows what it is for.

    Parameters
    ----------
    folder
        Where the locks lie; by default a folder of this user on this machine.

    Returns
    -------
    What CUDA_VISIBLE_DEVICES says then; None where there is no GPU, and it stays as it was.

    Raises
    ------
    DeviceError
        The folder of the locks is another user's.
    """
    os.environ.setdefault(ORDER, "PCI_BUS_ID")
    given = os.environ.get(VISIBLE)
    if _held or (given is not None and "," not in given):
        return given or None
    free = choices(visible_gpus(), os.environ)
    if not free:
        return None
    place = _own_folder() if folder is None else folder
    told = -TELL_S
    while True:
        for name, entry in free.items():
            if _lock(place / f"{name.replace('/', '_')}.lock"):
                os.environ[VISIBLE] = entry
                log.info("device: %s, one of %d", name, len(free))
                return entry
        if time.monotonic() - told >= TELL_S:
            told = time.monotonic()
            what = "1 GPU" if len(free) == 1 else f"{len(free)} GPUs, all"
            log.info(
                "%s taken by other jobs of yours: waiting (%s=0 takes one unasked)", what, VISIBLE
            )
        time.sleep(POLL_S)


def _lock(path: Path) -> bool:
    """Lock a file until this process ends; False if another process has it.

    Where the system clears old files away, a file may go between its opening and its locking, and
    the lock would be on one that nobody else sees: then it is made anew.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        os.utime(handle)  # not old again for days
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == os.stat(path).st_ino:
                _held.append(handle)
                return True
        os.close(handle)


def _own_folder() -> Path:
    """A folder of this user on this machine's own disk: what TMPDIR says may differ by job."""
    folder = Path(f"/tmp/slide2rna-gpus-{os.getuid()}")
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
    try:
        found = folder.lstat()
        own = found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode)
    except OSError:
        own = False
    if not own:
        cause = "there is no such folder of yours to lock GPUs in"
        raise DeviceError(folder, cause, f"make room for it, or set {VISIBLE} to one GPU")
    return folder
