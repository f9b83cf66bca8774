"""A reading process of a soak run: `python -m kit.soak.reader_process JSON`.

It prints what it has found as a line of JSON each second. The lines of its input are REST and
CONTINUE; it ends when its input is closed.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import itertools
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Protocol

from kit.load import Load
from kit.soak.fsspec_reader import FsspecReader
from kit.soak.mount_reader import MountReader
from kit.soak.schedule import operation

REST, CONTINUE = b"rest\n", b"continue\n"
REPORT_EVERY_S = 1.0
MAX_IN_CYCLES = 200_000  # a heap of this size lets half as many wait for a full collection
_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
PAUSE_S = 0.05  # before the next operation if one fails at once: the mount may be dead


@dataclasses.dataclass(frozen=True)
class Task:
    """What one process reads: a mount at `root`, or `ego4d://` if that is empty."""

    name: str
    root: str
    seed: int
    threads: int
    video_digest: str
    ends_after_s: float  # how long the end of the process waits for calls
    always_there: bool = True  # the mount lives as long as the run

    @property
    def face(self) -> str:
        """The face that is read."""
        return "mount" if self.root else "fsspec"


class Reader(Protocol):
    """Operations on one face."""

    def run(self, kind: str, rng: object) -> None: ...
    def close(self) -> None: ...


def main() -> int:
    """Read until the input is closed; always ends, even if calls hang."""
    task = Task(**json.loads(sys.argv[1]))
    libc = ctypes.CDLL(None)
    getattr(libc, "mallopt", lambda *_: 0)(_ARENA_MAX, 1)  # malloc_trim skips the end of others
    logging.disable()  # the faults are expected; what they lead to is in the report
    load, over, may_read = Load(), threading.Event(), threading.Event()
    may_read.set()
    shared = None if task.root else FsspecReader(load)
    threads = [
        threading.Thread(
            target=_read, args=(task, number, load, over, may_read, shared), daemon=True
        )
        for number in range(task.threads)
    ]
    for thread in threads:
        thread.start()
    threading.Thread(target=_follow_input, args=(over, may_read), daemon=True).start()
    trim = getattr(libc, "malloc_trim", lambda _: 0)
    while not over.wait(REPORT_EVERY_S):
        if not may_read.is_set():
            # At rest only what is used counts: neither up to 32 MiB that are free, nor cycles of
            # objects, which wait for the next full collection of a heap that is a quarter larger.
            if (count := gc.collect()) > MAX_IN_CYCLES:
                load.note(load.unexpected, f"{count} objects were in cycles that nothing uses")
            trim(0)
        _print(load)
    until = time.monotonic() + task.ends_after_s
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    _print(load)
    if shared is not None:
        shared.close()
    os._exit(0)


def _read(
    task: Task,
    number: int,
    load: Load,
    over: threading.Event,
    may_read: threading.Event,
    shared: Reader,
) -> None:
    reader = shared or MountReader(
        Path(task.root), load, task.video_digest, always_there=task.always_there
    )
    for index in itertools.count():
        may_read.wait()
        if over.is_set():
            break
        failed = load.failed.total()
        kind, rng = operation(task.face, task.seed, f"{task.name}-{number}", index)
        reader.run(kind, rng)
        if load.failed.total() != failed:
            time.sleep(PAUSE_S)
    if reader is not shared:
        reader.close()


def _follow_input(over: threading.Event, may_read: threading.Event) -> None:
    for line in sys.stdin.buffer:
        if line == REST:
            may_read.clear()
        else:
            may_read.set()
    over.set()
    may_read.set()


def _print(load: Load) -> None:
    print(json.dumps(load.snapshot()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
