"""Reads of cached blocks that cannot be opened or removed, or that are no files."""

from __future__ import annotations

import errno
import os

import pytest

from ego4dfs.cache import blockfile
from ego4dfs.reader import reader as reader_module
from kit.cache import NO_FILES, replace
from kit.fakes import CountingStore
from kit.reader import URL, read, settle

DATA = b"0123456789"


@pytest.fixture
def cached(make_reader, monkeypatch, tmp_path):
    """Return a store, a reader, an object and the file of its one block, which is cached."""
    monkeypatch.setattr(reader_module, "ANSWER_S", 0.1)
    store = CountingStore()
    ref = store.put(URL, DATA)
    reader = make_reader(store)
    assert read(reader, ref, 0, 10) == DATA
    settle(reader)
    (file,) = tmp_path.glob("v1/blocks/??/*")
    return store, reader, ref, file


def check_one_more_request(store, reader, ref) -> None:
    """Check that a read fetches the block once, and that the next one finds it in the cache."""
    for _ in range(2):
        assert read(reader, ref, 0, 10) == DATA
        settle(reader)
        assert len(store.gets) == 2


@pytest.mark.parametrize("kind", NO_FILES)
def test_something_else_in_the_place_of_a_block_is_replaced(cached, kind):
    store, reader, ref, file = cached
    replace(file, kind)
    check_one_more_request(store, reader, ref)


@pytest.mark.fault(
    area="disk",
    fault="a cached block that cannot be opened: of another user, or without permissions",
    face="all",
    sees="it is fetched again, and replaced if possible",
    deadline="at once",
)
def test_a_block_without_permissions_is_fetched_again(cached, monkeypatch):
    store, reader, ref, file = cached
    denied, read_into = file.stat().st_ino, blockfile.read_into

    def open_if_allowed(path, start, view):
        if os.stat(path).st_ino == denied:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return read_into(path, start, view)

    monkeypatch.setattr(blockfile, "read_into", open_if_allowed)
    check_one_more_request(store, reader, ref)


def test_a_damaged_block_that_cannot_be_removed_is_fetched_again(cached, monkeypatch):
    def fail(path):
        raise OSError(errno.EPERM, "Operation not permitted", str(path))

    store, reader, ref, file = cached
    monkeypatch.setattr(blockfile, "remove", fail)
    monkeypatch.setattr("ego4dfs.cache.index.BlockIndex.remove", lambda _index, _key: None)
    os.truncate(file, 1)
    check_one_more_request(store, reader, ref)
