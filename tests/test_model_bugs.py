"""The state machine of ego4dfs.testing finds bugs that are planted into the product."""

from __future__ import annotations

import time

import pytest

from ego4dfs.blocks import ObjectRef
from ego4dfs.facts import FactsIndex
from ego4dfs.testing import MemoryStore
from ego4dfs.vfs import VFS
from kit.models import VFSMachine, run

pytestmark = pytest.mark.first_pass

EXAMPLES = 150  # the first ten find most
of, read_range = ObjectRef.of, MemoryStore.read_range
read_into = VFS.read_into


def cache_keys_without_the_etag(patch):
    patch(ObjectRef, "of", lambda source, url, size, etag: of(source, url, size, ""))


def a_store_that_ignores_the_etag(patch):
    def any_version(self, url, start, stop, **_):
        return read_range(self, url, start, stop)

    patch(MemoryStore, "read_range", any_version)


def a_read_that_loses_a_byte_at_the_end_of_a_block(patch):
    def short(self, handle, offset, view):
        count = read_into(self, handle, offset, view)
        return count - 1 if count > 1 and (offset + count) % (1 << 20) == 0 else count

    patch(VFS, "read_into", short)


def an_expired_key_that_is_remembered_as_a_refusal(patch):
    def remember(self, url, error):
        self._table.record_refusal(url, str(error), time.time(), is_missing=False)

    patch(FactsIndex, "_refuse", remember)


BUGS = [
    cache_keys_without_the_etag,
    a_store_that_ignores_the_etag,
    a_read_that_loses_a_byte_at_the_end_of_a_block,
    an_expired_key_that_is_remembered_as_a_refusal,
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug, monkeypatch):
    bug(monkeypatch.setattr)
    with pytest.raises(AssertionError):
        run(VFSMachine, examples=EXAMPLES, steps=50, shrink=False, repeatable=True)
