"""Random reads through a mount while the gateway injects one fault after the other.

`python -m kit.random_reads READS` prints the result; `scripts/random-reads` sets up first.
The cache is smaller than the data, so blocks are evicted all the time. Every byte is compared.
An error is a valid result; wrong bytes, a wrong size, an end of file inside a file, and a read
that outlives the stated deadline are not.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from ego4dfs.runtime.deadline import ANSWER_S
from kit.data import MIB, Seeded
from kit.fault_kinds import KINDS
from kit.faulty_mounts import add_options, faulty_mounts
from kit.gateway import Faults
from kit.load import Load
from kit.mounts import status

SIZES = [0, 1, 4096, 256 << 10, (256 << 10) + 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7, 8 * MIB + 999]
FILES_OF_EACH_SIZE = 9
CACHE = "64MiB"
READERS = 8
LONGEST_READ = 96 << 10
FAULT_S = 1.0
DEADLINE_S = ANSWER_S + 10.0  # 10 s more, because the machine may be busy


@dataclass
class Report(Load):
    """What happened, by kind; each operation opens a file and reads some ranges of it."""

    faults: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    evictions: int = 0

    @property
    def broken(self) -> list[str]:
        """Everything that must not happen."""
        return [
            *(self.wrong_bytes + self.false_ends + self.wrong_sizes + self.unexpected),
            *self.unreadable,
        ]

    @property
    def is_right(self) -> bool:
        """Whether nothing forbidden has happened."""
        return not self.broken and self.slowest_s <= DEADLINE_S

    def __str__(self) -> str:
        errors = ", ".join(f"{count} {name}" for name, count in self.errors.most_common())
        faults = ", ".join(f"{count} × {name}" for name, count in self.faults.items())
        return (
            f"{self.reads} reads, {self.evictions} blocks evicted\n"
            f"faults: {faults}\nerrors: {errors or 'none'}\n"
            f"wrong bytes: {len(self.wrong_bytes)}, ends of file inside a file: "
            f"{len(self.false_ends)}, wrong sizes: {len(self.wrong_sizes)}, "
            f"unreadable once the faults are over: {len(self.unreadable)}\n"
            f"slowest call: {self.slowest_s:.2f} s of at most {DEADLINE_S:.0f} s"
        )


class Readers:
    """Threads that read random ranges until `reads` are done or `seconds` have passed."""

    def __init__(self, directory: Path, report: Report, *, reads: int, seconds: float) -> None:
        self._directory = directory
        self._report = report
        self._reads = reads
        self._until = time.monotonic() + seconds
        self._threads: list[threading.Thread] = []

    def start(self, seed: int, count: int) -> None:
        """Start this number of readers."""
        for number in range(count):
            rng = random.Random(f"{seed}-{number}")
            self._threads.append(threading.Thread(target=self._work, args=(rng,)))
            self._threads[-1].start()

    @property
    def are_done(self) -> bool:
        """Whether all of them have ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, rng: random.Random) -> None:
        while self._report.reads < self._reads and time.monotonic() < self._until:
            with self._report.operation("file"):
                self._read_some(rng.choice(NAMES), rng)

    def _read_some(self, name: str, rng: random.Random) -> None:
        """Open a file, compare some ranges of it, and then its size."""
        report = self._report
        with report.call("open"):
            fd = os.open(self._directory / name, os.O_RDONLY)
        try:
            for _ in range(rng.randint(1, 12)):
                offset = rng.randrange(SIZE_OF[name] + 1)
                count = min(rng.randint(1, LONGEST_READ), SIZE_OF[name] - offset)
                if rng.random() < 0.7:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                report.pread("read", fd, name, offset, count)
            size = os.fstat(fd).st_size
            if size != SIZE_OF[name]:
                report.note(report.wrong_sizes, f"{name}: {size}")
        finally:
            os.close(fd)


NAMES = [f"{kind}{size}.mp4" for kind in range(FILES_OF_EACH_SIZE) for size in SIZES]
SIZE_OF = dict(zip(NAMES, SIZES * FILES_OF_EACH_SIZE, strict=True))


def run(
    directory: Path,
    *,
    reads: int,
    seconds: float,
    libfuse: str,
    transport: str,
    seed: int = 1,
    readers: int = READERS,
) -> Report:
    """Read through a mount while faults start and end; return what happened."""
    report = Report()
    with faulty_mounts(directory, libfuse=libfuse, transport=transport) as stand:
        stand.release.dataset("clips", {n: Seeded(n).part(0, SIZE_OF[n]) for n in NAMES})
        arguments = ("--version", "v1", "--datasets", "clips", "--cache-size", CACHE)
        root = stand.mounts(*arguments, env=stand.env)
        load = Readers(root / "v1/clips", report, reads=reads, seconds=seconds)
        load.start(seed, readers)
        for kind in cycle(KINDS):
            if load.are_done:
                break
            stand.front.faults = Faults(**KINDS[kind])
            report.faults[kind] += 1
            time.sleep(FAULT_S)
        stand.front.faults = Faults()
        read_all(root / "v1/clips", report, report.unreadable)
        report.evictions = status(root)["evictions"]
    return report


def read_all(directory: Path, load: Load, unreadable: list[str]) -> None:
    """Read each whole file after the faults; for 10 s, remembered failures may still be raised."""
    until = time.monotonic() + 10.0
    for name in NAMES:
        wanted = Seeded(name).part(0, SIZE_OF[name])
        while True:
            try:
                load.compare(f"{name}: whole", (directory / name).read_bytes(), wanted)
                break
            except OSError as error:
                if time.monotonic() > until:
                    load.note(unreadable, f"{name}: {error}")
                    break
                time.sleep(0.1)


def main() -> int:
    """Run as a command; exit with 1 when something happened that must not happen."""
    parser = argparse.ArgumentParser(prog="scripts/random-reads", description=__doc__)
    parser.add_argument("reads", type=int, nargs="?", default=100_000, help="default: 100000")
    parser.add_argument("--seconds", type=float, default=3600.0, help="end after this time")
    parser.add_argument("--readers", type=int, default=READERS, help=f"default: {READERS}")
    add_options(parser)
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="random-reads-") as directory:
        report = run(Path(directory), **options)
    print(report)
    for line in report.broken:
        print(line)
    return 0 if report.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
