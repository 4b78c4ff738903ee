"""Hundreds of random fault sequences, kills in mid-download, a full disk: nothing lost or wrong.

python -m pytest tests/soak/test_fetch_faults.py -s
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import PASSING, Fault, FaultServer, md5
from fetching import run_sequences
from slide2rna.core.errors import DownloadError
from slide2rna.transfer import batch, client, resumable

MB = 1 << 20


@pytest.mark.parametrize("seed", [11, 12])
def test_random_fault_sequences(seed: int, tmp_path: Path) -> None:
    counts = run_sequences(200, seed, tmp_path)
    print(f"\nseed {seed}: 200 sequences, {counts.pop('requests')} requests,", end=" ")
    print(f"{counts.pop('right')} files right, {counts.pop('reported')} reported, 0 wrong")
    faults = {key.removeprefix("fault: "): n for key, n in counts.items()}
    for kind, number in sorted(faults.items()):
        print(f"  {number:4d} {kind}")
    assert set(PASSING) <= set(faults)


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from slide2rna.transfer import batch, client, resumable

jobs = []
for number, known in enumerate(sys.argv[4:]):
    md5, size = known.split(":")
    dest = Path(sys.argv[3]) / f"{number}.svs"
    jobs.append(resumable.Download(f"{sys.argv[2]}/{number}", dest, md5, int(size)))
results = batch.fetch_all(jobs, client.ServerSettings(parallel=3, timeout_s=60, backoff_s=0.01))
sys.exit(any(results.values()))
"""


@pytest.mark.timeout(1800)
def test_killed_again_and_again(repo: Path, tmp_path: Path) -> None:
    draw = random.Random(5)
    files = {f"/{n}": draw.randbytes(draw.randint(MB, 4 * MB)) for n in range(6)}
    sums = [f"{md5(content)}:{len(content)}" for content in files.values()]
    total = sum(map(len, files.values()))
    kills = 0
    with FaultServer(files) as server:
        # Each stall holds a file in mid-body until the kill; shares differ, so that they pile up.
        for path in files:
            server.add(path, *(Fault("stall", share) for share in (0.2, 0.5, 0.4)))
        command = [sys.executable, "-c", CHILD, str(repo / "scripts"), server.url(""), tmp_path]
        while True:
            process = subprocess.Popen([*map(str, command), *sums])
            asked = len(server.requests)
            deadline = time.monotonic() + 300
            stalling = any(server.script.values())
            while stalling and len(server.requests) < asked + 3:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            if not stalling:
                break
            # Anywhere between the request and the end of what was sent.
            time.sleep(draw.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            for number, content in enumerate(files.values()):
                path = tmp_path / f"{number}.svs"
                assert not path.exists() or path.read_bytes() == content
        assert process.wait() == 0
        resumed = sum(headers.get("Range") is not None for _, headers, _ in server.requests)
        sent = server.sent
    for number, content in enumerate(files.values()):
        assert (tmp_path / f"{number}.svs").read_bytes() == content
    assert not list(tmp_path.glob("*.partial"))
    assert kills >= 3
    assert resumed > 0
    print(f"\n{kills} kills, {resumed} requests resumed, {sent / total:.2f} x the bytes sent")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    content = random.Random(1).randbytes(3 * MB)
    settings = client.ServerSettings(backoff_s=0.01)
    with FaultServer({"/a": content}) as server, client.session(settings) as session:
        sized = resumable.Download(
            server.url("/a"), small_disk / "a.svs", md5(content), len(content)
        )
        with pytest.raises(DownloadError, match=r"GB .*GB .*free"):
            batch.fetch_all([sized], settings)
        assert not server.requests
        # Its size isn't known, so the disk fills up on the way.
        with pytest.raises(DownloadError, match="disk is full"):
            resumable.fetch_file(session, sized.url, sized.dest, sized.md5, None, settings)
        assert [path.name for path in small_disk.iterdir()] == ["a.svs.partial"]
        kept = (small_disk / "a.svs.partial").read_bytes()
        assert kept == content[: len(kept)]
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        resumable.fetch_file(session, sized.url, sized.dest, sized.md5, None, settings)
        assert sized.dest.read_bytes() == content
        print(f"\nfull at {len(kept)} bytes, resumed with {server.ranges('/a')[1]}")
