"""Programs that share one slow line, in virtual time: `python -m simulation.slow_line --help`.

Each reads a file of its own from start to end. Prints what it cost, as JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from ego4dfs.errors import StoreUnavailable
from ego4dfs.runtime import memory_limit
from ego4dfs.vfs import VFS, Handle, open_vfs
from simulation.replacement import replaced
from simulation.s3 import Objects, Result, Text, Version
from simulation.scheduler import Scheduler
from simulation.world import DIRECTORY, MANIFEST, MIB, World

_PIECE_BYTES = 16 << 10


@dataclass
class Costs:
    """What all reads cost together."""

    read: int = 0
    sent: int = 0
    reads: int = 0
    failed: int = 0
    longest_s: float = 0.0
    held: int = 0
    """Most bytes of blocks in memory."""
    errors: list[str] = field(default_factory=list)


class Line:
    """The bodies of all answers share it, piece by piece; nothing comes after `silent_after_s`."""

    def __init__(self, scheduler: Scheduler, bytes_per_s: float, silent_after_s: float) -> None:
        self.costs = Costs()
        self._scheduler = scheduler
        self._bytes_per_s = bytes_per_s
        self._silent_after_s = silent_after_s
        self._free_s = 0.0

    def send(self, answer: Any, least: int) -> Iterator[memoryview]:
        """Send an answer, as `Result.stream` does."""
        exchange = answer._exchange
        data = exchange.store.body(exchange, answer._version, answer._place)
        begin = 0
        for stop in range(_PIECE_BYTES, len(data) + _PIECE_BYTES, _PIECE_BYTES):
            now_s, size = self._scheduler.now_s, min(_PIECE_BYTES, len(data) + _PIECE_BYTES - stop)
            self._free_s = max(self._free_s, now_s) + size / self._bytes_per_s
            exchange.wait(inf if now_s >= self._silent_after_s else self._free_s - now_s)
            self.costs.sent += size
            if stop - begin >= least or stop >= len(data):
                yield data[begin:stop]
                begin = stop


class Run:
    """Readers of files of `size` bytes, by calls of `step` bytes."""

    def __init__(self, world: World, line: Line, readers: int, size: int, step: int) -> None:
        self._world, self._line = world, line
        self._step = step
        self._running = readers
        world.objects.versions.clear()
        world.files.clear()
        for number in range(readers):
            url = f"s3://ego4d-0/clips/{number:03d}.mp4"
            world.objects.versions[url] = [Version(number * 4099, size, "opaque", 0.0)]
            world.files[f"{DIRECTORY}/{number:03d}.mp4"] = url
        world.objects.versions[MANIFEST] = [_manifest(world.objects)]

    def run(self) -> None:
        """Read all files, and measure."""
        world, costs = self._world, self._line.costs
        vfs = open_vfs(world.config())
        for path in world.files:
            world.scheduler.spawn(lambda p=path: self._read(vfs, p), path)
        flights = vfs.session.reader.downloads._flights
        while self._running:
            world.scheduler.wait(0.5)
            costs.held = max(costs.held, sum(len(one._data) for one in flights._all()))
        vfs.close()

    def _read(self, vfs: VFS, path: str) -> None:
        try:
            handle = vfs.open(path, first_offset=0)
            for offset in range(0, handle.size, self._step):
                self._read_once(vfs, path, handle, offset)
        finally:
            self._running -= 1

    def _read_once(self, vfs: VFS, path: str, handle: Handle, offset: int) -> None:
        costs, began_s = self._line.costs, self._world.scheduler.now_s
        costs.reads += 1
        try:
            got = vfs.read(handle, offset, self._step)
        except StoreUnavailable as error:
            costs.failed += 1
            costs.errors.append(str(error))
        else:
            version = self._world.objects.current(self._world.files[path])
            assert got == version.data[offset : offset + self._step]
            costs.read += len(got)
        costs.longest_s = max(costs.longest_s, self._world.scheduler.now_s - began_s)


def _method(line: Line) -> Any:
    """Return a function that a class binds to its objects, which a method of a line is not."""

    def stream(answer: Result, least: int) -> Iterator[memoryview]:
        return line.send(answer, least)

    return stream


def _manifest(objects: Objects) -> Text:
    rows = [f"{number},file,{url}" for number, url in enumerate(objects.versions)]
    return Text("\n".join(["video_uid,type,s3_path", *rows, ""]).encode())


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("readers", type=int)
    parser.add_argument("mb_per_s", type=float)
    parser.add_argument("--limit-mib", type=int, default=0)
    parser.add_argument("--size-mib", type=int, default=4)
    parser.add_argument("--step-kib", type=int, default=1024)
    parser.add_argument("--silent-after-s", type=float, default=inf)
    given = parser.parse_args()
    limit = given.limit_mib * MIB or None
    memory_limit.memory_limit = lambda: limit  # type: ignore[assignment]
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - SQLite in memory
    with tempfile.TemporaryDirectory(dir=base) as directory:
        world = World(0, Path(directory) / "cache", [])
        world.cache_bytes, world.verify = 4096 * MIB, "off"
        line = Line(world.scheduler, given.mb_per_s * 1e6, given.silent_after_s)
        Result.stream = _method(line)
        run = Run(world, line, given.readers, given.size_mib * MIB, given.step_kib << 10)
        with replaced(world.scheduler, 0, world.replacements()):
            main_task = world.scheduler.spawn(run.run, "slow line")
            try:
                world.scheduler.run(lambda: main_task.is_done)
            finally:
                world.disk.close_all()
                world.scheduler.kill_all()
    assert not world.scheduler.failures, world.scheduler.failures
    print(json.dumps(asdict(line.costs)))


if __name__ == "__main__":
    main()
