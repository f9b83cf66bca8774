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
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ego4dfs.blocks import Extent, ObjectRef, block_extents, part_extents
from ego4dfs.cache.database import relative_name
from kit.data import MIB, Seeded
from kit.faulty_mounts import FaultyMounts, add_options, faulty_mounts
from kit.load import Load
from kit.mounts import kill_mount

FILES, FILE_BYTES = 40, 3 * MIB + 12345
READERS_PER_MOUNT = 2
READ_BYTES = 300_000


@dataclass
class Report(Load):
    """What happened: counts, the slowest start in seconds, and what must stay empty."""

    kills: int = 0
    slowest_start_s: float = 0.0
    lost: list[str] = field(default_factory=list)
    unchecked: int = 0

    @property
    def wrong(self) -> list[str]:
        """Everything that a reader must not see."""
        return self.wrong_bytes + self.false_ends + self.unexpected

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.reads} reads, {self.errors.total()} ended by a kill\n"
            f"wrong bytes: {len(self.wrong)}, cached files fetched again: {len(self.lost)}\n"
            f"slowest start of a mount: {self.slowest_start_s:.2f} s\n"
            f"kills before any file was cached whole: {self.unchecked}"
        )


class Readers:
    """Readers of both mounts that compare what they read, and continue after a mount has ended."""

    def __init__(self, directories: list[Path], report: Report, seed: int) -> None:
        self._report = report
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
            try:
                fd = os.open(directory / name, os.O_RDONLY)
            except OSError:
                self._over.wait(0.05)  # the mount is dead and comes back
                continue
            with self._report.operation("file"):
                self._read_some(fd, name, rng)

    def _read_some(self, fd: int, name: str, rng: random.Random) -> None:
        try:
            for _ in range(8):
                offset = rng.randrange(FILE_BYTES)
                count = min(READ_BYTES, FILE_BYTES - offset)
                self._report.pread("read", fd, name, offset, count)
        finally:
            os.close(fd)


class CachedFiles:
    """The files of one dataset, and which of them are in the cache completely."""

    def __init__(self, stand: FaultyMounts) -> None:
        self._front, self._release, self._cache = stand.front, stand.release, stand.cache
        names = [_name(number) for number in range(FILES)]
        self._release.dataset("clips", {name: Seeded(name).part(0, FILE_BYTES) for name in names})
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
        stand = stack.enter_context(faulty_mounts(directory, libfuse=libfuse, transport=transport))
        files = CachedFiles(stand)
        arguments = ("--version", "v1", "--datasets", "clips")
        roots = [stand.mounts(*arguments, env=stand.env) for _ in range(2)]
        readers = Readers([root / "v1/clips" for root in roots], report, seed)
        stack.callback(readers.stop)
        for _ in range(kills):
            time.sleep(rng.uniform(0.1, 0.6))
            root = rng.choice(roots)
            again = partial(stand.mounts.again, root, *arguments, env=stand.env)
            _kill(root, report, files, again)
    return report


def _kill(
    root: Path, report: Report, files: CachedFiles, mount_again: Callable[[], object]
) -> None:
    """Kill one mount, restart it, and read a file that was cached completely."""
    whole = files.cached_whole()
    kill_mount(root)
    began_s = time.monotonic()
    mount_again()
    report.slowest_start_s = max(report.slowest_start_s, time.monotonic() - began_s)
    report.kills += 1
    if not whole:
        report.unchecked += 1
        return
    name = random.Random(report.kills).choice(whole)
    before = files.requests_for(name)
    data = (root / "v1/clips" / name).read_bytes()
    report.compare(f"{name} after kill {report.kills}", data, Seeded(name).part(0, FILE_BYTES))
    if files.requests_for(name) != before:
        report.lost.append(f"{name} after kill {report.kills}")


def _name(number: int) -> str:
    return f"{number:02}.mp4"


def _file(entry: Extent) -> str:
    return Path(relative_name(entry.key)).name


def main() -> int:
    """Run as a command; exit with 1 when bytes were wrong or cached ones were fetched again."""
    parser = argparse.ArgumentParser(prog="scripts/kill-mounts", description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=100, help="default: 100")
    add_options(parser)
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="kill-mounts-") as directory:
        report = run(directory=Path(directory), **options)
    print(report)
    return 1 if report.wrong or report.lost else 0


if __name__ == "__main__":
    sys.exit(main())
