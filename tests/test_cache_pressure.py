"""The block cache in a process without free descriptors, memory or threads."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from ego4dfs.cache import CacheReport
from kit.cache import UNIT, block_file, bytes_of, got, key_of, open_cache, put


@pytest.fixture
def cache(tmp_path):
    """A cache after a restart, with block 1, which is not checked yet."""
    first = open_cache(tmp_path)
    put(first, 1)
    first.close()
    opened = open_cache(tmp_path)
    yield opened
    opened.close()


class Failing:
    """Raise `number` instead of opening block files, while `on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self._number, self.on = number, True
        self._open, self._os_open = open, os.open
        monkeypatch.setattr("builtins.open", self.open)
        monkeypatch.setattr(os, "open", self.os_open)

    def open(self, path, *arguments, **keywords):
        self._check(path)
        return self._open(path, *arguments, **keywords)

    def os_open(self, path, *arguments, **keywords):
        self._check(path)
        return self._os_open(path, *arguments, **keywords)

    def _check(self, path: object) -> None:
        if self.on and key_of(1)[2:] in str(path):
            raise OSError(self._number, os.strerror(self._number), str(path))


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES])
def test_a_block_that_cannot_be_opened_now_is_kept(
    tmp_path, cache, monkeypatch, caplog, number, checked
):
    assert not checked or got(cache, 1) is not None
    failing = Failing(monkeypatch, number)
    assert [got(cache, 1) for _ in range(3)] == [None] * 3
    failing.on = False
    assert block_file(tmp_path, 1).exists()
    assert len(cache.admin) == 1
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("checked", [False, True])
def test_a_block_on_a_bad_sector_is_dropped(tmp_path, cache, monkeypatch, checked):
    assert not checked or got(cache, 1) is not None
    failing = Failing(monkeypatch, errno.EIO)
    assert got(cache, 1) is None
    failing.on = False
    assert not block_file(tmp_path, 1).exists()
    assert len(cache.admin) == 0


def test_verify_drops_a_block_on_a_bad_sector(cache, monkeypatch):
    failing = Failing(monkeypatch, errno.EIO)
    assert cache.admin.verify().damaged == 1
    failing.on = False
    assert cache.admin.verify() == CacheReport(sound=0, damaged=0, lost=0, stray=0)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])
def test_verify_reports_a_block_that_cannot_be_opened_now_and_keeps_it(cache, monkeypatch, number):
    failing = Failing(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        cache.admin.verify()
    failing.on = False
    assert cache.admin.verify() == CacheReport(sound=1, damaged=0, lost=0, stray=0)


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_hit_needs_no_thread(cache, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        assert got(cache, 1) == bytes_of(key_of(1), UNIT)
    assert "the order of use is not recorded" in caplog.text
    assert key_of(1) in cache._writer.touched


def test_a_cache_is_closed_without_a_thread(tmp_path, cache, monkeypatch):
    put(cache, 2)
    writer = cache._writer._thread
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        cache.close()
    assert not writer.is_alive()
    again = open_cache(tmp_path)
    assert [got(again, number) for number in (1, 2)] == [bytes_of(key_of(n), UNIT) for n in (1, 2)]
    again.close()
