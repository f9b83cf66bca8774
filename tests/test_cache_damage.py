"""The block cache with damaged files, full disks, and killed or competing processes."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from ego4dfs.cache import CacheReport
from kit.cache import (
    UNIT,
    PutResults,
    block_file,
    bytes_of,
    disk_bytes,
    got,
    key_of,
    length_of,
    open_cache,
    put,
    use_in_a_child,
    write_many,
    write_on_a_full_disk,
)
from kit.processes import wait_until

MIB = 1 << 20


def flip(path: Path, _other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path, _other: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_the_trailer(path: Path, _other: Path) -> None:
    os.truncate(path, UNIT)


def lengthen(path: Path, _other: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def swap(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def empty(path: Path, _other: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [flip, truncate, cut_the_trailer, lengthen, swap, empty]


@pytest.fixture
def damaged(tmp_path, metrics, request):
    """A cache after a restart, with blocks 1, 2 and 3; the second was damaged meanwhile."""
    cache = open_cache(tmp_path)
    put(cache, 1, 2, 3)
    cache.close()
    request.param(block_file(tmp_path, 2), block_file(tmp_path, 1))
    cache = open_cache(tmp_path, metrics=metrics)
    yield cache
    cache.close()


@pytest.mark.parametrize("damaged", DAMAGES, indirect=True)
def test_a_damaged_block_is_dropped_and_absent(tmp_path, damaged, metrics):
    part = bytearray(10)
    assert not damaged.read_into(key_of(2), 5, memoryview(part))
    assert not block_file(tmp_path, 2).exists()
    assert not damaged.contains(key_of(2))
    assert (len(damaged.admin), metrics.errors) == (2, 1)
    assert [got(damaged, n) for n in (1, 3)] == [bytes_of(key_of(n), UNIT) for n in (1, 3)]
    put(damaged, 2)
    assert got(damaged, 2) == bytes_of(key_of(2), UNIT)


@pytest.mark.parametrize("damaged", DAMAGES, indirect=True)
def test_verify_finds_a_damaged_block_and_drops_it(damaged):
    assert damaged.admin.verify() == CacheReport(sound=2, damaged=1, lost=0, stray=0)
    assert damaged.admin.verify() == CacheReport(sound=2, damaged=0, lost=0, stray=0)
    assert got(damaged, 2) is None


@pytest.mark.parametrize("damage", [truncate, empty])
def test_a_block_truncated_after_its_check_is_absent_too(tmp_path, damage):
    cache = open_cache(tmp_path)
    put(cache, 1)
    assert got(cache, 1) is not None
    damage(block_file(tmp_path, 1), block_file(tmp_path, 1))
    assert got(cache, 1) is None
    cache.close()


def test_verify_finds_lost_and_stray_files(tmp_path):
    cache = open_cache(tmp_path)
    put(cache, *range(5))
    block_file(tmp_path, 1).unlink()
    stray = block_file(tmp_path, 99)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"nobody knows me")
    old_part, new_part = (tmp_path / "v1/blocks/incoming" / name for name in ("old", "new"))
    old_part.write_bytes(b"")
    new_part.write_bytes(b"")
    os.utime(old_part, (time.time() - 3600,) * 2)
    assert cache.admin.verify() == CacheReport(sound=4, damaged=0, lost=1, stray=2)
    assert new_part.exists()  # another process may be writing it
    assert cache.admin.verify() == CacheReport(sound=4, damaged=0, lost=0, stray=0)
    cache.close()


def test_a_block_that_cannot_be_written_costs_no_error(tmp_path):
    """A file stands where the block's directory belongs."""
    cache = open_cache(tmp_path)
    block_file(tmp_path, 1).parent.write_text("in the way")
    results = PutResults()
    data = memoryview(bytes_of(key_of(1), UNIT))
    cache.put(key_of(1), "s3://b/k", data, results)
    assert results.wait(1) == [False]
    assert got(cache, 1) is None
    free = next(n for n in range(2, 99) if key_of(n)[:2] != key_of(1)[:2])
    put(cache, free)
    assert got(cache, free) == bytes_of(key_of(free), UNIT)
    cache.close()


def test_a_block_that_cannot_be_written_does_not_affect_the_others_of_its_batch(tmp_path):
    cache = open_cache(tmp_path)
    block_file(tmp_path, 1).parent.write_text("in the way")
    others = [n for n in range(2, 30) if key_of(n)[:2] != key_of(1)[:2]][:8]
    results_of = {number: PutResults() for number in (1, *others)}
    for number, results in results_of.items():
        data = memoryview(bytes_of(key_of(number), UNIT))
        cache.put(key_of(number), "s3://b/k", data, results)
    assert {n: results.wait(1)[0] for n, results in results_of.items()} == {
        n: n != 1 for n in results_of
    }
    cache.close()


def test_a_full_disk_causes_no_error_and_leaves_no_incoming_file(tmp_path):
    writer = get_context("spawn").Process(target=write_on_a_full_disk, args=(str(tmp_path),))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    assert not list(tmp_path.rglob("*.part"))
    cache = open_cache(tmp_path)
    assert (cache.admin.verify().damaged, got(cache, 3)) == (0, bytes_of(key_of(3), UNIT))
    cache.close()


ANYTHING = [OSError(28, "full"), KeyError("x"), MemoryError(), TypeError()]


@pytest.mark.parametrize("error", ANYTHING)
def test_the_writer_survives_any_failure_of_the_index(tmp_path, monkeypatch, error):
    cache = open_cache(tmp_path)
    monkeypatch.setattr(cache._index, "reserve", FailOnce(error, cache._index.reserve))
    results = PutResults()
    cache.put(key_of(2), "s3://b/k", memoryview(b"x"), results)
    assert results.wait(1) == [False]
    put(cache, 3)
    assert got(cache, 3) == bytes_of(key_of(3), UNIT)
    cache.close()


@pytest.mark.parametrize("error", ANYTHING)
def test_the_writer_survives_any_failure_to_record_the_order_of_use(tmp_path, monkeypatch, error):
    monkeypatch.setattr("ego4dfs.cache.writer._TOUCH_EVERY_S", 0.0)
    cache = open_cache(tmp_path)
    fail = FailOnce(error, cache._index.touch)
    monkeypatch.setattr(cache._index, "touch", fail)
    cache._writer.touched.add(key_of(1))
    put(cache, 1, 2)
    wait_until(lambda: fail.called)
    put(cache, 3)
    assert got(cache, 3) == bytes_of(key_of(3), UNIT)
    cache.close()


class FailOnce:
    """Raise an error at the first call, and work afterwards."""

    def __init__(self, error: Exception, call) -> None:
        self._error, self._call, self.called = error, call, 0

    def __call__(self, *arguments):
        self.called += 1
        if self.called == 1:
            raise self._error
        return self._call(*arguments)


def test_the_writer_survives_an_error_in_a_callback(tmp_path):
    cache = open_cache(tmp_path)

    def fail(stored: bool) -> None:  # noqa: FBT001 - the writer's only argument
        raise KeyError(stored)

    results = PutResults()
    for number, done in enumerate([fail, results, fail, results]):
        cache.put(key_of(number), "s3://b/k", memoryview(b"x"), done)
    assert results.wait(2) == [True, True]
    put(cache, 7)
    cache.close()


def test_processes_that_write_at_once_stay_below_the_limit(tmp_path):
    bound, count = 16 * MIB, 150
    context = get_context("spawn")
    arguments = [(str(tmp_path), i * 100, count, bound) for i in range(4)]
    writers = [context.Process(target=write_many, args=a) for a in arguments]
    for writer in writers:
        writer.start()
    peak = 0
    while any(writer.is_alive() for writer in writers):
        peak = max(peak, disk_bytes(tmp_path / "v1" / "blocks"))
        time.sleep(0.005)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert peak <= bound + 4 * MIB + 8 * MIB  # a block of each on its way; SQLite's log
    cache = open_cache(tmp_path, None)
    assert cache.admin.used_bytes <= bound
    assert disk_bytes(tmp_path) <= bound + MIB
    report = cache.admin.verify()
    assert (report.damaged, report.stray) == (0, 0)
    assert report.sound > 10
    check_all(cache, range(100 * 3 + count))
    cache.close()


def check_all(cache, numbers) -> None:
    for number in numbers:
        length = length_of(number, mixed=True)
        assert got(cache, number, length) in {None, bytes_of(key_of(number), length)}


def test_a_process_killed_while_it_writes_leaves_a_usable_cache(tmp_path):
    bound = 16 * MIB
    context = get_context("spawn")
    for round_number in range(3):
        writer = context.Process(
            target=write_many, args=(str(tmp_path), round_number * 50, 5000, bound)
        )
        writer.start()
        wait_until(lambda: len(list(tmp_path.rglob("*-0"))) > 20)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        cache = open_cache(tmp_path, bound)
        check_all(cache, range(round_number * 50 + 200))
        put(cache, 10**6 + round_number)
        assert cache.admin.used_bytes <= bound
        assert cache.admin.verify().damaged == 0
        cache.close()


def test_a_fork_while_the_cache_is_written_leaves_no_lock_behind(tmp_path):
    """A DataLoader forks while blocks are on their way to the disk."""
    cache = open_cache(tmp_path)
    stop = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if stop.wait(0.001):
                return
            cache.put(key_of(number), "s3://b/k", memoryview(b"x" * 1000), lambda _: None)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert [use_in_a_child(tmp_path, 10**6 + n) for n in range(40)] == [0] * 40
    finally:
        stop.set()
        writer.join()
        cache.close()


def test_clear_replaces_a_damaged_index(tmp_path, cli):
    cache = open_cache(tmp_path)
    put(cache, 1)
    cache.close()
    (tmp_path / "v1" / "blocks" / "cache.db").write_bytes(b"no database" * 1000)
    assert cli("cache", "info", "--cache-dir", str(tmp_path), check=False).returncode != 0
    cli("cache", "clear", "--cache-dir", str(tmp_path))
    cache = open_cache(tmp_path)
    assert got(cache, 1) is None
    put(cache, 1)
    cache.close()
