"""Random reads through a mount while the gateway injects one fault after the other.

`python -m kit.random_reads READS` prints the result; `scripts/random-reads` sets up first.
The cache is smaller than the data, so blocks are evicted all the time. Every byte is compared.
An error is a valid result; wrong bytes, a wrong size, an end of file inside a file, and a read
that outlives the stated deadline are not.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from ego4dfs.demo.server import S3Server
from ego4dfs.runtime.deadline import ANSWER_S
from kit.data import MIB, Seeded, read_whole
from kit.gateway import Faults, Gateway, Reply
from kit.mounts import Mounts, status
from kit.server import SHARING, Release, environment

SIGN_IN = b"<!DOCTYPE html><title>Sign in</title>"
KINDS: dict[str, dict[str, object]] = {
    "none": {},
    "503 SlowDown": {"slow_down_every": 2},
    "connections reset": {"reset_every": 3},
    "bodies cut": {"cut_body_at": 70_000, "cut_body_every": 2},
    "late answers": {"latency_s": 0.4},
    "silence before the answer": {"stall_s": 7.0, "only": "/0"},
    "silence in the body": {"stall_body_s": 7.0, "stall_body_every": 4},
    "slow bodies": {"bytes_per_s": 300_000.0, "piece_bytes": 16 << 10},
    "ranges ignored": {"hide_range": True, "only": "/1"},
    "another version": {"etag": "0" * 32, "only": "/2"},
    "503 with Retry-After": {"slow_down_every": 1, "retry_after_s": 1, "only": "/3"},
    "bodies that trickle": {"trickle_s": 2.0, "piece_bytes": 64, "only": "/4"},
    "a sign-in page": {"reply": Reply(200, {"Content-Type": "text/html"}, SIGN_IN)},
    "a redirect": {"reply": Reply(302, {"Location": "http://127.0.0.1:9/"})},
    "sizes of HEAD too small": {"head_size_off": -137, "only": "/5"},
    "sizes of HEAD too large": {"head_size_off": 137, "only": "/6"},
    "weak ETags": {"headers": {"ETag": 'W/"0"'}, "only": "/7"},
    "no ETag": {"headers": {"ETag": ""}, "only": "/8"},
    "no Last-Modified": {"headers": {"Last-Modified": ""}, "only": "/0"},
}
SIZES = [0, 1, 4096, 256 << 10, (256 << 10) + 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7, 8 * MIB + 999]
FILES_OF_EACH_SIZE = 9
CACHE = "64MiB"
READERS = 8
LONGEST_READ = 96 << 10
FAULT_S = 1.0
DEADLINE_S = ANSWER_S + 10.0  # 10 s more, because the machine may be busy


@dataclass
class Report:
    """Counts of what happened, and what must not happen."""

    reads: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong_bytes: list[str] = field(default_factory=list)
    false_ends: list[str] = field(default_factory=list)
    wrong_sizes: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    evictions: int = 0

    @property
    def is_right(self) -> bool:
        """Whether nothing forbidden has happened."""
        bad = (self.wrong_bytes, self.false_ends, self.wrong_sizes, self.unreadable)
        return not any(bad) and self.slowest_s <= DEADLINE_S

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
        self._lock = threading.Lock()  # guards the report
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
            try:
                self._read_some(rng.choice(NAMES), rng)
            except OSError as error:
                with self._lock:
                    self._report.errors[errno.errorcode[error.errno]] += 1

    def _read_some(self, name: str, rng: random.Random) -> None:
        """Open a file, compare some ranges of it, and then its size."""
        with self._timed():
            fd = os.open(self._directory / name, os.O_RDONLY)
        try:
            for _ in range(rng.randint(1, 12)):
                offset = rng.randrange(SIZE_OF[name] + 1)
                count = min(rng.randint(1, LONGEST_READ), SIZE_OF[name] - offset)
                if rng.random() < 0.7:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                self._compare(fd, name, offset, count)
            size = os.fstat(fd).st_size
            if size != SIZE_OF[name]:
                with self._lock:
                    self._report.wrong_sizes.append(f"{name}: {size}")
        finally:
            os.close(fd)

    def _compare(self, fd: int, name: str, offset: int, count: int) -> None:
        with self._timed():
            found = read_whole(fd, count, offset)
        wanted = Seeded(name).part(offset, count)
        with self._lock:
            self._report.reads += 1
            if len(found) < count:
                self._report.false_ends.append(f"{name}: {offset + len(found)}")
            if found != wanted[: len(found)]:
                self._report.wrong_bytes.append(f"{name}: {offset}+{count}")

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Record how long a call takes, also if it fails."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            took_s = time.monotonic() - began_s
            with self._lock:
                self._report.slowest_s = max(self._report.slowest_s, took_s)


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
    with ExitStack() as stack:
        server = stack.enter_context(S3Server(directory / "s3"))
        server.create_bucket(SHARING)
        Release(server, "v1").dataset("clips", {n: Seeded(n).part(0, SIZE_OF[n]) for n in NAMES})
        front = stack.enter_context(Gateway(server.endpoint_url))
        env = environment(server, directory / "home", transport, AWS_ENDPOINT_URL_S3=front.url)
        mounts = Mounts(directory, libfuse)
        stack.callback(mounts.clear)
        root = mounts("--version", "v1", "--datasets", "clips", "--cache-size", CACHE, env=env)
        load = Readers(root / "v1/clips", report, reads=reads, seconds=seconds)
        load.start(seed, readers)
        for kind in cycle(KINDS):
            if load.are_done:
                break
            front.faults = Faults(**KINDS[kind])
            report.faults[kind] += 1
            time.sleep(FAULT_S)
        front.faults = Faults()
        _read_all(root / "v1/clips", report)
        report.evictions = status(root)["evictions"]
    return report


def _read_all(directory: Path, report: Report) -> None:
    """Read each whole file after the faults; for 10 s, remembered failures may still be raised."""
    until = time.monotonic() + 10.0
    for name in NAMES:
        wanted = Seeded(name).part(0, SIZE_OF[name])
        while True:
            try:
                if (directory / name).read_bytes() != wanted:
                    report.wrong_bytes.append(f"{name}: whole")
                break
            except OSError as error:
                if time.monotonic() > until:
                    report.unreadable.append(f"{name}: {error}")
                    break
                time.sleep(0.1)


def main() -> int:
    """Run as a command; exit with 1 when something happened that must not happen."""
    parser = argparse.ArgumentParser(prog="scripts/random-reads", description=__doc__)
    parser.add_argument("reads", type=int, nargs="?", default=100_000, help="default: 100000")
    parser.add_argument("--seconds", type=float, default=3600.0, help="end after this time")
    parser.add_argument("--libfuse", default="3", choices=("2", "3"))
    parser.add_argument("--transport", default="obstore", choices=("obstore", "s3fs"))
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--readers", type=int, default=READERS, help=f"default: {READERS}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="random-reads-") as directory:
        report = run(
            Path(directory),
            reads=given.reads,
            seconds=given.seconds,
            libfuse=given.libfuse,
            transport=given.transport,
            seed=given.seed,
            readers=given.readers,
        )
    print(report)
    for line in (*report.wrong_bytes, *report.false_ends, *report.wrong_sizes, *report.unreadable):
        print(line)
    return 0 if report.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
