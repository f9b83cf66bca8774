"""Reads through a mount by processes that start together, and what they cost the mount process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from benchmarks import RunError
from benchmarks.mounts import Mounted
from benchmarks.row import Column

MIB, GIB = 1 << 20, 1 << 30
RATE = (
    Column("rate", "MiB/s", digits=0, spread=True, more_is_better=True),
    Column("cpu_s_gib", "CPU s/GiB"),
    Column("peak_mib", "peak MiB", digits=0),
    Column("requests", "requests", digits=0),
    Column("fetched", "fetched ÷ read"),
)
_WORKER = Path(__file__).with_name("mount_worker.py")
_TIMEOUT_S = 300.0
ALL = 1 << 60


@dataclass(frozen=True, slots=True)
class Reading:
    """The bytes that processes read together, and the time from the first start to the last end."""

    wall_s: float
    size: int


def read(jobs: Sequence[Sequence[Path]], *, limit: int = ALL, evict: bool = False) -> Reading:
    """Read the files of each job in a process of its own; all start at the same time.

    `limit` bounds the bytes of a file; `evict` drops its pages first. Raises RunError.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(job, limit, evict=evict)) for job in jobs]
        for worker in workers:
            _line(worker)
        for worker in workers:
            _say(worker, "go")
        answers = [json.loads(_line(worker)) for worker in workers]
    wall_s = max(answer["end"] for answer in answers) - min(answer["begin"] for answer in answers)
    return Reading(wall_s, sum(answer["bytes"] for answer in answers))


def measured(mount: Mounted, work: Callable[[], Reading]) -> dict[str, float]:
    """Do the work once; return the values of `RATE`, the wall time and the bytes on the wire."""
    before = mount.settled()
    with mount.meter() as meter:
        reading = work()
        cpu_s = meter.cpu_s
    after = mount.settled()
    found = of_reading(reading) | {
        "cpu_s_gib": cpu_s / reading.size * GIB,
        "cpu_s": cpu_s,
        "peak_mib": meter.peak_bytes / MIB,
    }
    if before and after:
        sent = after[1] - before[1]
        found |= {"requests": after[0] - before[0], "wire_mib": sent / MIB}
        found["fetched"] = sent / reading.size
    return found


def of_reading(reading: Reading) -> dict[str, float]:
    """Return the values of reads without a mount, such as those of a local file."""
    return {"wall_s": reading.wall_s, "rate": reading.size / reading.wall_s / MIB}


@contextmanager
def _worker(paths: Sequence[Path], limit: int, *, evict: bool) -> Iterator[subprocess.Popen[str]]:
    worker = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = threading.Timer(_TIMEOUT_S, worker.kill)
    try:
        watch.start()  # a mount that hangs would block its reader forever
        _say(worker, json.dumps({"paths": list(map(str, paths)), "limit": limit, "evict": evict}))
        yield worker
        worker.communicate(timeout=_TIMEOUT_S)
    finally:
        watch.cancel()
        worker.kill()
        worker.communicate()


def _say(worker: subprocess.Popen[str], text: str) -> None:
    stream = cast("IO[str]", worker.stdin)
    stream.write(text + "\n")
    stream.flush()


def _line(worker: subprocess.Popen[str]) -> str:
    line = cast("IO[str]", worker.stdout).readline()
    if not line:
        words = cast("IO[str]", worker.stderr).read().strip().splitlines() or [
            "it ended without a message"
        ]
        raise RunError(f"reading failed: {words[-1]}")
    return line
