"""The block cache in a process without free descriptors, memory or threads."""

from __future__ import annotations

import errno
import os

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
