"""Bugs planted into ego4dfs, one at a time, which the state machine must find."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from ego4dfs.blocks import ObjectRef
from ego4dfs.facts import FactsIndex
from ego4dfs.testing import MemoryStore
from ego4dfs.vfs import VFS
from kit.models import VFSMachine, run

EXAMPLES = 150  # the first ten find most
of, read_range = ObjectRef.of, MemoryStore.read_range
read_into = VFS.read_into


def cache_keys_without_the_etag() -> None:
    ObjectRef.of = lambda source, url, size, etag: of(source, url, size, "")


def a_store_that_ignores_the_etag() -> None:
    def any_version(self, url, start, stop, **_):
        return read_range(self, url, start, stop)

    MemoryStore.read_range = any_version


def a_read_that_loses_the_last_byte_of_a_block() -> None:
    def short(self, handle, offset, view):
        count = read_into(self, handle, offset, view)
        return count - 1 if count > 1 and (offset + count) % (1 << 20) == 0 else count

    VFS.read_into = short


def an_expired_key_remembered_as_a_refusal() -> None:
    def remember(self, url, error):
        self._table.record_refusal(url, str(error), time.time(), is_missing=False)

    FactsIndex._refuse = remember


BUGS: Mapping[str, Callable[[], None]] = {
    "cache keys without the ETag": cache_keys_without_the_etag,
    "a store that ignores the ETag": a_store_that_ignores_the_etag,
    "a read that loses the last byte of a block": a_read_that_loses_the_last_byte_of_a_block,
    "an expired key remembered as a refusal": an_expired_key_remembered_as_a_refusal,
}


if __name__ == "__main__":
    BUGS[sys.argv[1]]()
    run(VFSMachine, examples=EXAMPLES, steps=50, shrink=False, repeatable=True)
