"""Kill mounts with SIGKILL under load; two mounts share one cache.

`python -m kit.kill_mounts KILLS` prints the result; `scripts/kill-mounts` sets up first.
After each kill the mount is restarted, a file whose blocks were all on disk before the kill is
read through it, and the requests for that file are counted: there must be none.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ego4dfs.blocks import Extent, ObjectRef, block_extents, part_extents
from ego4dfs.cache.database import relative_name
from ego4dfs.demo.server import S3Server
from kit.data import MIB, Seeded, read_whole
from kit.gateway import Gateway
from kit.mounts import Mounts, status
from kit.processes import is_running, wait_until
from kit.server import SHARING, Release, environment

FILES, FILE_BYTES = 40, 3 * MIB + 12345
READERS_PER_MOUNT = 2
READ_BYTES = 300_000


@dataclass
class Report:
    """What happened: counts, the slowest start in seconds, and what must stay empty."""

    kills: int = 0
    reads: int = 0
    errors: int = 0
    slowest_start_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unchecked: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.reads} reads, {self.errors} reads ended by a kill\n"
            f"wrong bytes: {len(self.wrong)}, cached files fetched again: {len(self.lost)}\n"
            f"slowest start of a mount: {self.slowest_start_s:.2f} s\n"
            f"kills before any file was cached whole: {self.unchecked}"
        )


class Load:
    """Readers of both mounts that compare what they read, and continue after a mount has ended."""

    def __init__(self, directories: list[Path], report: Report, seed: int) -> None:
        self._report = report
        self._lock = threading.Lock()  # guards the report
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(directory, random.Random(f"{seed}{n}{i}")))
            for n, directory in enumerate(directories)
            for i in range(READERS_PER_MOUNT)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the readers."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _read(self, directory: Path, rng: random.Random) -> None:
        while not self._over.is_set():
            name = _name(rng.randrange(FILES))
            data = Seeded(name)
            try:
                fd = os.open(directory / name, os.O_RDONLY)
            except OSError:
                self._over.wait(0.05)  # the mount is dead and comes back
                continue
            try:
                for _ in range(8):
                    offset = rng.randrange(FILE_BYTES)
                    count = min(READ_BYTES, FILE_BYTES - offset)
                    right = read_whole(fd, count, offset) == data.part(offset, count)
                    with self._lock:
                        self._report.reads += 1
                        if not right:
                            self._report.wrong.append(f"{name} at {offset}")
            except OSError:
                with self._lock:
                    self._report.errors += 1
            finally:
                os.close(fd)


class Setup:
    """A server behind a gateway, one cache, and two mounts of one dataset."""

    def __init__(self, directory: Path, server: S3Server, front: Gateway) -> None:
        self._front = front
        self._release = Release(server, "v1")
        names = [_name(number) for number in range(FILES)]
        self._release.dataset("clips", {name: Seeded(name).part(0, FILE_BYTES) for name in names})
        self._cache = directory / "home/cache"
        self._keys = {name: self._block_files(name) for name in names}

    def cached_whole(self) -> list[str]:
        """Return the files of which all bytes are on disk, in blocks or in parts."""
        on_disk = {path.name for path in self._cache.rglob("*")}
        return [
            name
            for name, blocks in self._keys.items()
            if all(block in on_disk or parts <= on_disk for block, parts in blocks)
        ]

    def requests_for(self, name: str) -> int:
        """Count the GETs of one object so far."""
        return sum(m == "GET" and path.endswith(f"/{name}") for m, path, _ in self._front.log[:])

    def _block_files(self, name: str) -> list[tuple[str, frozenset[str]]]:
        """Return the names of each block's file and of the files of its parts."""
        etag = hashlib.md5(Seeded(name).part(0, FILE_BYTES), usedforsecurity=False).hexdigest()
        ref = ObjectRef.of(self._front.url, self._release.url(f"clips/{name}"), FILE_BYTES, etag)
        return [
            (_file(block), frozenset(map(_file, part_extents(ref, block.start, block.stop))))
            for block in block_extents(ref)
        ]


def run(kills: int, directory: Path, *, libfuse: str, transport: str, seed: int = 1) -> Report:
    """Kill one of two mounts `kills` times while both are read; return what happened."""
    report, rng = Report(), random.Random(seed)
    with ExitStack() as stack:
        server = stack.enter_context(S3Server(directory / "s3"))
        server.create_bucket(SHARING)
        front = stack.enter_context(Gateway(server.endpoint_url))
        setup = Setup(directory, server, front)
        env = environment(server, directory / "home", transport, AWS_ENDPOINT_URL_S3=front.url)
        mounts = Mounts(directory, libfuse)
        stack.callback(mounts.clear)
        arguments = ("--version", "v1", "--datasets", "clips")
        roots = [mounts(*arguments, env=env) for _ in range(2)]
        load = Load([root / "v1/clips" for root in roots], report, seed)
        stack.callback(load.stop)
        for _ in range(kills):
            time.sleep(rng.uniform(0.1, 0.6))
            root = rng.choice(roots)
            _kill(root, report, setup, lambda root=root: mounts.again(root, *arguments, env=env))
    return report


def _kill(root: Path, report: Report, setup: Setup, mount_again: Callable[[], object]) -> None:
    """Kill one mount, restart it, and read a file that was cached completely."""
    pid, whole = status(root)["pid"], setup.cached_whole()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    began_s = time.monotonic()
    mount_again()
    report.slowest_start_s = max(report.slowest_start_s, time.monotonic() - began_s)
    report.kills += 1
    if not whole:
        report.unchecked += 1
        return
    name = random.Random(report.kills).choice(whole)
    before = setup.requests_for(name)
    if (root / "v1/clips" / name).read_bytes() != Seeded(name).part(0, FILE_BYTES):
        report.wrong.append(f"{name} after kill {report.kills}")
    if setup.requests_for(name) != before:
        report.lost.append(f"{name} after kill {report.kills}")


def _name(number: int) -> str:
    return f"{number:02}.mp4"


def _file(entry: Extent) -> str:
    return Path(relative_name(entry.key)).name


def main() -> int:
    """Run as a command; exit with 1 when bytes were wrong or cached ones were fetched again."""
    parser = argparse.ArgumentParser(prog="scripts/kill-mounts", description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=100, help="default: 100")
    parser.add_argument("--libfuse", default="3", choices=("2", "3"))
    parser.add_argument("--transport", default="obstore", choices=("obstore", "s3fs"))
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    given = parser.parse_args()
    options = {"libfuse": given.libfuse, "transport": given.transport, "seed": given.seed}
    with tempfile.TemporaryDirectory(prefix="kill-mounts-") as directory:
        report = run(given.kills, Path(directory), **options)
    print(report)
    return 1 if report.wrong or report.lost else 0


if __name__ == "__main__":
    sys.exit(main())
