"""A real Slurm on this machine: Debian's daemons on one node, without systemd, for a test's time.

The node is in two partitions, `main` and `gpus`. Jobs are killed when they take more memory than
they asked for, and there is one stand-in for a GPU: a device file that Slurm hands out to one job
at a time.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
# Where jobs look, too: the executor takes Slurm's variables from the environment of its jobs.
CONFIG = Path("/etc/slurm/slurm.conf")
GRES = CONFIG.with_name("gres.conf")
DAEMONS = ("munged", "slurmctld", "slurmd")
# A test that was killed leaves its file behind; nobody else's is touched.
MARK = "# tests/soak made this file"
TEMPLATE = (
    f"{MARK}\n"
    + """\
ClusterName=soak
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MinJobAge=3600
SchedulerParameters=sched_interval=2,batch_sched_delay=1
KillWait=5
GresTypes=gpu
NodeName=localhost NodeHostname={host} CPUs={cpus} RealMemory={memory_mb} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=2-0 State=UP
PartitionName=gpus Nodes=ALL MaxTime=2-0 State=UP
"""
)


class NoSlurm(Exception):
    """Why there can be none here."""


def install() -> None:
    """Install Debian's packages where they are missing.

    Raises
    ------
    NoSlurm
        If this isn't root's to do, or they can't be had.
    """
    if os.geteuid() != 0:
        raise NoSlurm("its daemons are started by root, and this is another user")
    if CONFIG.is_symlink() or (CONFIG.exists() and MARK not in CONFIG.read_text()):
        raise NoSlurm(f"{CONFIG} is there: this machine has a Slurm of its own, which stays alone")
    if not all(map(shutil.which, (*DAEMONS, "sbatch"))):
        if shutil.which("apt-get") is None:
            raise NoSlurm("no Slurm here, and no apt-get to install it with")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            done = subprocess.run(
                ["apt-get", "-qq", *words],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise NoSlurm(f"apt-get {words[0]} failed: {done.stderr.strip()[-300:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(*command: str) -> str:
    """What a command of Slurm prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip()


def until(true: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {seconds:g} s")
        time.sleep(0.1)


def running(name: str) -> list[psutil.Process]:
    """Processes of a daemon."""
    return [process for process in psutil.process_iter(["name"]) if process.info["name"] == name]


def serve(folder: Path, *command: str, user: str | None = None) -> subprocess.Popen[bytes]:
    """Start a daemon in the foreground, to end when the test's process does, even by SIGKILL."""
    tied = ["setpriv", "--pdeathsig", "KILL", *command]
    with (folder / f"{command[0]}.out").open("wb") as out:
        return subprocess.Popen(tied, user=user, group=user, stdout=out, stderr=out)


@contextmanager
def node(folder: Path) -> Iterator[Path]:
    """Yield the folder with the daemons' logs; they end with the block, whatever happens in it.

    Raises
    ------
    NoSlurm
        With the reason.
    """
    install()
    if found := [name for name in DAEMONS if running(name)]:
        raise NoSlurm(f"{', '.join(found)} already runs here, and stays alone")
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    memory = psutil.virtual_memory().total >> 20
    text = TEMPLATE.format(
        folder=folder,
        host=socket.gethostname().split(".")[0],
        ports=(free_port(), free_port()),
        cpus=os.cpu_count(),
        memory_mb=int(memory * 0.9),
    )
    daemons = []
    try:
        CONFIG.write_text(text)
        # Any character device will do: nothing here opens it.
        GRES.write_text("Name=gpu File=/dev/null\n")
        munge = ["install", "-d", "-o", "munge", "-g", "munge"]
        subprocess.run([*munge, "/run/munge", "/var/log/munge", "/var/lib/munge"], check=True)
        if not Path("/etc/munge/munge.key").exists():
            subprocess.run(["runuser", "-u", "munge", "--", "mungekey", "-c"], check=True)
        daemons.append(serve(folder, "munged", "--foreground", user="munge"))
        until(Path("/run/munge/munge.socket.2").exists, "munged")
        daemons.append(serve(folder, "slurmctld", "-D"))
        until(lambda: "UP" in say("scontrol", "ping"), "slurmctld")
        daemons.append(serve(folder, "slurmd", "-D", "-N", "localhost"))
        until(lambda: say("sinfo", "-h", "-o", "%T") == "idle", "slurmd")
        yield folder
    finally:
        stop(daemons)


def stop(daemons: list[subprocess.Popen[bytes]]) -> None:
    """End all jobs and these daemons, and take the configuration away."""
    if len(daemons) == len(DAEMONS):
        say("scancel", "--user", "root")
        try:
            until(lambda: not say("squeue", "-h"), "the end of all jobs")
        except TimeoutError as error:
            print(error, file=sys.stderr)
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    for path in (CONFIG, GRES):
        path.unlink(missing_ok=True)
