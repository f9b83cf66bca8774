"""Reads by processes that start together, and what they cost the process that serves them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import workers
from benchmarks.measure import Metered
from benchmarks.row import Column

MIB, GIB = 1 << 20, 1 << 30
RATE = (
    Column("rate", "MiB/s", digits=0, spread=True, more_is_better=True),
    Column("cpu_s_gib", "CPU s/GiB"),
    Column("peak_mib", "peak MiB", digits=0),
    Column("requests", "requests", digits=0),
    Column("fetched", "fetched ÷ read"),
)
_COMMAND = (sys.executable, "-I", "-S", str(Path(__file__).with_name("mount_worker.py")))
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
    work = [{"paths": [str(path) for path in job], "limit": limit, "evict": evict} for job in jobs]
    with workers.started(_COMMAND, work) as readers:
        answers = readers.work()
    return Reading(elapsed_s(answers), sum(answer["bytes"] for answer in answers))


def elapsed_s(answers: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds from the first `begin` to the last `end` of workers."""
    last = max(float(answer["end"]) for answer in answers)
    return last - min(float(answer["begin"]) for answer in answers)


def measured(process: Metered, work: Callable[[], Reading]) -> dict[str, float]:
    """Do the work once; return the values of `RATE`, the wall time and the bytes on the wire."""
    before = process.settled()
    with process.meter() as meter:
        reading = work()
        cpu_s = meter.cpu_s
    after = process.settled()
    found = of_reading(reading) | {
        "cpu_s_gib": cpu_s / reading.size * GIB,
        "cpu_s": cpu_s,
        "peak_mib": meter.peak_bytes / MIB,
    }
    if before and after:
        passed = after.since(before)
        found |= {"requests": passed.requests, "wire_mib": passed.sent / MIB}
        found["fetched"] = passed.sent / reading.size
    return found


def of_reading(reading: Reading) -> dict[str, float]:
    """Return the values of reads without a mount, such as those of a local file."""
    return {"wall_s": reading.wall_s, "rate": reading.size / reading.wall_s / MIB}
