"""What tests of downloads share: one file, one call, and randomised sequences of faults."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from fault_server import LASTING, PASSING, Fault, FaultServer, md5
from slide2rna.transfer import batch, client, resumable

CONTENT = bytes(range(256)) * 1200
MD5, SIZE = md5(CONTENT), len(CONTENT)
FAST = client.ServerSettings(timeout_s=60, tries=4, backoff_s=0.002)
# For faults that only a time-out ends; on a busy machine others may run into it, too.
IMPATIENT = client.ServerSettings(parallel=8, timeout_s=2, tries=30, backoff_s=0.002)
TIMED = ("drip", "silence")
WORST = 5
# Bodies that only the md5 can tell from the right one; the others only if no size is known.
WRONG = {"corrupt"}
WRONG_UNSIZED = WRONG | {"long", "longer promise", "shorter promise", "page unmarked"}


def get(url: str, dest: Path, settings: client.ServerSettings = FAST, **known: object) -> None:
    """Fetch `CONTENT`, unless the test knows something else of the file."""
    known = {"md5": MD5, "size": SIZE} | known
    with client.session(settings) as session:
        resumable.fetch_file(session, url, dest, settings=settings, **known)  # type: ignore[arg-type]


def run_sequences(sequences: int, seed: int, folder: Path) -> Counter[str]:
    """Fetch one file per sequence; fails unless each is right at the end or reported.

    A sequence whose faults all pass, with at most one wrong body, must end with the file.
    """
    draw = random.Random(seed)
    files, jobs, counts, plan = {}, [], Counter[str](), {}
    with FaultServer(files) as server:
        for number in range(sequences):
            path = f"/{number}"
            files[path] = draw.randbytes(draw.choice([1, 1000, 40_000, 300_000]))
            kinds = draw.choices([*PASSING, "corrupt"], k=draw.randint(0, WORST))
            if draw.random() < 0.1:
                kinds.append(draw.choice(LASTING))
            plan[number] = kinds
            for kind in kinds:
                retry_after = draw.choice([None, "0", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
                value = retry_after if kind.startswith("status") else None
                server.add(path, Fault(kind, draw.random(), value))
            size = len(files[path]) if draw.random() < 0.8 else None
            dest = folder / f"{number}.svs"
            jobs.append(resumable.Download(server.url(path), dest, md5(files[path]), size))
        results = batch.fetch_all(jobs, IMPATIENT)
        counts["requests"] = len(server.requests)
        counts.update(f"fault: {kind}" for _, _, kind in server.requests if kind != "none")
    for number, job in enumerate(jobs):
        error, kinds = results[job.dest], plan[number]
        if error is None:
            assert job.dest.read_bytes() == files[f"/{number}"], kinds
            counts["right"] += 1
        else:
            assert not job.dest.exists(), kinds
            wrong = WRONG_UNSIZED if job.size is None else WRONG
            doubtful = sum(kind in wrong for kind in kinds) > 1
            assert doubtful or set(kinds) & set(LASTING), (kinds, error)
            assert "\n" not in str(error)
            counts["reported"] += 1
    assert counts["right"] + counts["reported"] == sequences
    return counts
