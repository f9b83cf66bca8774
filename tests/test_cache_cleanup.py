"""Cleaning of the cache directory while other processes write, or after they were killed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ego4dfs.cache import CacheReport, blockfile, cleanup
from kit.cache import UNIT, block_file, bytes_of, got, key_of, open_cache, put


def test_the_writer_sweeps_the_files_that_a_killed_process_left(tmp_path):
    first = open_cache(tmp_path)
    put(first, 1)
    first.close()
    incoming = tmp_path / "v1" / "blocks" / "incoming"
    assert incoming.stat().st_mode & 0o777 == 0o700
    old, young = incoming / "old.7.8.tmp", incoming / "young.7.8.tmp"
    for file in (old, young):
        file.write_bytes(b"half a block")
    os.utime(old, (time.time() - 3600,) * 2)
    again = open_cache(tmp_path)
    put(again, 2)
    assert (old.exists(), young.exists()) == (False, True)
    again.close()


def test_clearing_sweeps_incoming_files(tmp_path):
    cache = open_cache(tmp_path)
    put(cache, 1)
    part = tmp_path / "v1" / "blocks" / "incoming" / "old.7.8.tmp"
    part.write_bytes(b"half a block")
    os.utime(part, (time.time() - 3600,) * 2)
    cache.admin.clear()
    assert not part.exists()
    cache.close()


def test_two_threads_write_one_block_in_files_of_their_own(tmp_path, monkeypatch):
    """Two caches in one process, or two containers with one pid: neither cuts the other's short."""
    path, data = tmp_path / "ab" / "c", memoryview(bytes_of("abc", UNIT))
    names: list[str] = []
    both = threading.Barrier(2)
    writev = os.writev

    def meet(fd: int, buffers: list) -> int:
        names.append(os.readlink(f"/proc/self/fd/{fd}"))
        both.wait(10)
        return writev(fd, buffers)

    monkeypatch.setattr(os, "writev", meet)
    threads = [threading.Thread(target=blockfile.write, args=(path, "abc", data)) for _ in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(names)) == 2
    assert blockfile.is_valid(path, "abc")
    assert not list((tmp_path / "incoming").iterdir())


def test_verify_leaves_the_blocks_that_a_mount_adds_meanwhile(tmp_path, monkeypatch):
    mount, verifying = open_cache(tmp_path), open_cache(tmp_path)
    put(mount, 1)
    keys = verifying._index.keys

    def list_then_wait() -> list[str]:
        listed = keys()
        put(mount, 2)
        return listed

    monkeypatch.setattr(verifying._index, "keys", list_then_wait)
    assert verifying.admin.verify() == CacheReport(sound=1, damaged=0, lost=0, stray=0)
    assert got(mount, 2) == bytes_of(key_of(2), UNIT)
    verifying.close()
    mount.close()


def test_a_row_without_a_file_is_removed(tmp_path):
    cache = open_cache(tmp_path)
    put(cache, 1, 2)
    block_file(tmp_path, 1).unlink()
    assert cleanup.verify(tmp_path / "v1" / "blocks", cache._index).lost == 1
    cache.close()


@pytest.mark.parametrize("age_s", [700, -700])
def test_incoming_files_of_any_wrong_clock_are_abandoned(tmp_path: Path, age_s: int) -> None:
    """Those that were written before the clock was set back are never old."""
    (tmp_path / "incoming").mkdir()
    for name, seconds in (("left", age_s), ("recent", 0)):
        path = tmp_path / "incoming" / name
        path.touch()
        os.utime(path, (time.time() - seconds,) * 2)
    assert cleanup.sweep_incoming(tmp_path) == 1
    assert (tmp_path / "incoming" / "recent").exists()
