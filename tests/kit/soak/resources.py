"""Memory, descriptors, threads and connections of the processes of a soak run, and their bounds."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kit.gateway import Gateway
from kit.soak.files import BUCKETS

SAMPLE_EVERY_S = 0.5
MAX_CONNECTIONS = 128  # of one process to one bucket
# 96 for each bucket, 96 for sweeps, and the workers of libfuse, which are as many as there are
# running calls; docs/concepts/architecture.md lists them.
MAX_THREADS = 96 * BUCKETS + 96 + 112
MAX_DESCRIPTORS = MAX_CONNECTIONS * BUCKETS + 256
# 90 to begin with, 80 for requests, 64 for blocks that could not be written, and as much again
# for what the allocator keeps.
MAX_RSS_MIB = 400
CACHE_SLACK = 2 << 20  # a block that is being written, and one that a walk has counted twice


@dataclass(frozen=True)
class Sample:
    """What one process uses at a moment.

    `sockets` are the two of a loop that wakes itself, and connections, which follow the faults.
    `threads` are without the workers of libfuse that wait for the next request: it keeps some of
    those that it has needed.
    """

    at_s: float
    pid: int
    rss_mib: float
    files: int
    sockets: int
    threads: int
    waiting_workers: int = 0


class Resources:
    """A thread that samples processes by name until `stop`; `violations` are broken bounds."""

    def __init__(
        self,
        processes: Callable[[], dict[str, int]],
        front: Gateway,
        cache: Path,
        cache_limit: int,
    ) -> None:
        self._processes, self._front = processes, front
        self._blocks, self._cache_limit = cache / "v1" / "blocks", cache_limit
        self.samples: dict[str, list[Sample]] = {}
        self.violations: Counter[str] = Counter()
        self.largest: dict[str, int] = {"cache bytes": 0, "connections": 0, "RSS MiB": 0}
        self._over = threading.Event()
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end the thread."""
        self._over.set()
        self._thread.join()

    @property
    def now_s(self) -> float:
        """The time since the first sample."""
        return time.monotonic() - self._began_s

    def connections(self) -> int:
        """Count the connections to the gateway that the processes have now."""
        count = 0
        for pid in self._processes().values():
            with suppress(OSError):  # it has ended
                count += self._connections(pid, _links(pid)).total()
        return count

    def _run(self) -> None:
        while not self._over.is_set():
            self._sample()
            self._over.wait(SAMPLE_EVERY_S)
        self._sample()

    def _sample(self) -> None:
        for name, pid in self._processes().items():
            try:
                links = _links(pid)
                sample = _sample_of(pid, links, self.now_s)
                connections = self._connections(pid, links)
            except (OSError, TypeError):  # it has ended, perhaps while it was looked at
                continue
            self.samples.setdefault(name, []).append(sample)
            self.largest["RSS MiB"] = max(self.largest["RSS MiB"], int(sample.rss_mib))
            self._check(f"{name}: MiB of memory", int(sample.rss_mib), MAX_RSS_MIB)
            threads = sample.threads + sample.waiting_workers
            self._check(f"{name}: threads", threads, MAX_THREADS)
            self._check(f"{name}: descriptors", sample.files + sample.sockets, MAX_DESCRIPTORS)
            for bucket, count in connections.items():
                self.largest["connections"] = max(self.largest["connections"], count)
                self._check(f"{name}: connections to {bucket}", count, MAX_CONNECTIONS)
        used = _cache_bytes(self._blocks)
        self.largest["cache bytes"] = max(self.largest["cache bytes"], used)
        self._check("cache bytes", used, self._cache_limit + CACHE_SLACK)

    def _check(self, what: str, value: int, bound: int) -> None:
        if value > bound:
            self.violations[f"{what}: more than {bound}"] += 1

    def _connections(self, pid: int, links: list[str]) -> Counter[str]:
        """Count the connections of a process to the gateway, by bucket."""
        sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
        bucket_of = self._front.bucket_of
        rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
        ports = [int(row[1].partition(":")[2], 16) for row in rows if row[9] in sockets]
        return Counter(bucket_of[port] for port in ports if port in bucket_of)


def _sample_of(pid: int, links: list[str], at_s: float) -> Sample:
    text = Path(f"/proc/{pid}/status").read_text()
    rss_kib = int(re.search(r"VmRSS:\s+(\d+)", text)[1])
    threads = int(re.search(r"Threads:\s+(\d+)", text)[1])
    sockets = sum(link.startswith("socket:[") for link in links)
    workers = min(threads - 1, _waiting_workers(pid))
    files = len(links) - sockets
    return Sample(at_s, pid, rss_kib / 1024, files, sockets, threads - workers, workers)


def _waiting_workers(pid: int) -> int:
    """Count the threads that are in a system call on /dev/fuse."""
    devices = {
        f"{int(entry.name):#x}"
        for entry in os.scandir(f"/proc/{pid}/fd")
        if _link(entry) == "/dev/fuse"
    }
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir() if devices else ():
        with suppress(OSError):  # it has ended
            found += (task / "syscall").read_text().split()[1:2] in [[one] for one in devices]
    return found


def _links(pid: int) -> list[str]:
    """Return what the descriptors of a process refer to."""
    return [_link(entry) for entry in os.scandir(f"/proc/{pid}/fd")]


def _link(entry: os.DirEntry[str]) -> str:
    try:
        return os.readlink(entry.path)
    except OSError:
        return ""


def _cache_bytes(blocks: Path) -> int:
    """Return the sizes of the index and of all blocks, which change meanwhile.

    The log of the index is not counted, and neither are incoming files: docs/concepts/caching.md.
    """
    total = 0
    for path in (blocks / "cache.db", *blocks.glob("??/*")):
        with suppress(OSError):
            total += path.stat().st_size
    return total
