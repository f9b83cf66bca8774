"""Helpers for cache tests: blocks whose bytes follow from their key, and writer processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import socket
import threading
from pathlib import Path

from ego4dfs.cache import BlockCache, prepare_directory
from ego4dfs.metrics import Metrics
from kit.processes import wait_until

KIB = 1 << 10
UNIT = 64 * KIB
MIXED_SIZES = (1, 100, 4 * KIB - 1, 4 * KIB, 17_000, UNIT, 300_001, 1 << 20)


def key_of(number: int) -> str:
    return f"{hashlib.md5(str(number).encode()).hexdigest()}-0"  # noqa: S324


def bytes_of(key: str, length: int) -> bytes:
    tile = hashlib.shake_256(key.encode()).digest(1021)
    return (tile * (length // 1021 + 1))[:length]


def length_of(number: int, *, mixed: bool) -> int:
    return random.Random(number).choice(MIXED_SIZES) if mixed else UNIT


def open_cache(
    cache_dir: Path, max_bytes: int | None = 1 << 30, metrics: Metrics | None = None
) -> BlockCache:
    return BlockCache(prepare_directory(cache_dir), metrics or Metrics(), max_bytes=max_bytes)


class PutResults:
    """A callback of `put` that records whether each block was stored, and can wait for them."""

    def __init__(self) -> None:
        self.stored: list[bool] = []
        self._lock = threading.Condition()

    def __call__(self, stored: bool) -> None:  # noqa: FBT001 - the writer's only argument
        with self._lock:
            self.stored.append(stored)
            self._lock.notify_all()

    def wait(self, count: int) -> list[bool]:
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.stored) >= count, 60)
            return self.stored


def put(cache: BlockCache, *numbers: int, length: int = UNIT) -> None:
    """Put blocks one after the other, so that the first is the oldest."""
    for number in numbers:
        results = PutResults()
        key = key_of(number)
        cache.put(key, "s3://b/k", memoryview(bytes_of(key, length)), results)
        assert results.wait(1) == [True]


def got(cache: BlockCache, number: int, length: int = UNIT) -> bytes | None:
    """Read a whole block, or return None if the cache does not have it."""
    buffer = bytearray(length)
    return bytes(buffer) if cache.read_into(key_of(number), 0, memoryview(buffer)) else None


def block_file(cache_dir: Path, number: int) -> Path:
    key = key_of(number)
    return cache_dir / "v1" / "blocks" / key[:2] / key[2:]


NO_FILES = ("a directory", "a FIFO", "a socket", "a dangling link", "a link to a file")


def replace(path: Path, kind: str) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    if kind == "a directory":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
            server.bind(path.name)  # a socket takes a path of 107 bytes at most
    elif kind == "a dangling link":
        path.symlink_to("/nonexistent/file")
    elif kind == "a link to a file":
        path.symlink_to("/etc/passwd")
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe" * 100)


def remove_in_use(directory: Path) -> None:
    """Remove a directory in which a process may create or remove files meanwhile."""

    def removed() -> bool:
        try:
            shutil.rmtree(directory)
        except OSError:  # a file came or went between the listing and the removal
            return not directory.exists()
        return True

    wait_until(removed)


def disk_bytes(cache_dir: Path) -> int:
    """Return the disk usage of all files below, as `du` reports it."""
    total = 0
    for path in cache_dir.rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def write_many(cache_dir: str, first: int, count: int, max_bytes: int) -> None:
    """Write blocks of mixed sizes; runs in a process of its own."""
    cache = open_cache(Path(cache_dir), max_bytes)
    results = PutResults()
    for number in range(first, first + count):
        key = key_of(number)
        data = bytes_of(key, length_of(number, mixed=True))
        cache.put(key, "s3://b/k", memoryview(data), results)
        results.wait(number - first - 40)
    cache.close()
    assert len(results.wait(count)) == count


def write_on_a_full_disk(cache_dir: str) -> None:
    """Write with a limit of half a MiB for each file, and print the result of each put."""
    metrics = Metrics()
    cache = open_cache(Path(cache_dir), metrics=metrics)
    put(cache, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512 * KIB, 512 * KIB))
    results = PutResults()
    key = key_of(2)
    cache.put(key, "s3://b/k", memoryview(bytes_of(key, 1 << 20)), results)
    assert results.wait(1) == [False]
    assert got(cache, 2, 1 << 20) is None
    put(cache, 3)
    assert [got(cache, n) for n in (1, 3)] == [bytes_of(key_of(n), UNIT) for n in (1, 3)]
    assert metrics.errors == 1
    cache.close()


def use_in_a_child(cache_dir: Path, number: int) -> int:
    """Fork, use the cache's index in the child, and return its exit code.

    A child that waits for a lock that no thread holds is killed by SIGALRM.
    """
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        try:
            cache = open_cache(cache_dir)
            cache._index.reserve([(key_of(number), UNIT, "s3://b/k", False)])
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
