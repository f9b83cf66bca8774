"""VFSTree: a VFS over a store in this process, for TreeMachine."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

from ego4dfs.catalog import SHARING_BUCKET, manifest_url
from ego4dfs.config import resolve
from ego4dfs.store import ObjectStore
from ego4dfs.testing import fault_store
from ego4dfs.testing.contract_release import manifest_of
from ego4dfs.testing.faces import OpeningFace, VFSFace
from ego4dfs.testing.fault_store import FaultStore, StoreFault
from ego4dfs.testing.tree_under_test import Fault
from ego4dfs.vfs import VFS, open_vfs
from ego4dfs.vfs.objects import OPEN_REFUSAL_VALID_S

VERSION, DATASET = "v2_1", "clips"
NAMES = ("a.mp4", "b.pt", "c.json")
_DRAIN_S = 30.0

EIO, EACCES, ENOENT = (frozenset({number}) for number in (errno.EIO, errno.EACCES, errno.ENOENT))
STORE_FAULTS: dict[Fault, StoreFault] = {
    Fault("unavailable", EIO): fault_store.UNAVAILABLE,
    Fault("every other request fails", EIO): fault_store.UNSTABLE,
    Fault("bodies are cut", EIO): fault_store.CUT,
    Fault("refused", EACCES, OPEN_REFUSAL_VALID_S, hides_size=True): fault_store.REFUSED,
    Fault("missing", ENOENT, OPEN_REFUSAL_VALID_S, hides_size=True): fault_store.MISSING,
    Fault("HEAD: too small", falsifies_size=True): fault_store.HEAD_TOO_SMALL,
    Fault("HEAD: too large", falsifies_size=True): fault_store.HEAD_TOO_LARGE,
}


class VFSTree:
    """A VFS over any ObjectStore, with faults between the two. See TreeUnderTest."""

    names = NAMES
    directory = f"v2/{DATASET}"
    faults = tuple(STORE_FAULTS)
    caches_attributes = False
    shares_size = False
    max_remounts = 3

    def __init__(
        self, store: ObjectStore, put: Callable[[str, bytes], None], cache_dir: Path
    ) -> None:
        """Show files of `store`, where `put` puts an object by its URL; cache in `cache_dir`."""
        self._put = put
        self._cache_dir = cache_dir
        self._store = FaultStore(store)
        put(manifest_url(VERSION, DATASET), manifest_of({n: _url(n) for n in self.names}))
        self._vfs = self._open()

    @property
    def face(self) -> OpeningFace:
        """See TreeUnderTest."""
        return VFSFace(self._vfs)

    def put(self, name: str, data: bytes) -> None:
        """See TreeUnderTest."""
        self._put(_url(name), data)

    def start_fault(self, fault: Fault, name: str) -> None:
        """See TreeUnderTest."""
        self._store.faults[_url(name)] = STORE_FAULTS[fault]

    def end_faults(self) -> None:
        """See TreeUnderTest."""
        self._store.faults.clear()

    def expire_keys(self) -> None:
        """See TreeUnderTest."""
        self._store.is_key_expired = True

    def renew_keys(self) -> None:
        """See TreeUnderTest."""
        self._store.is_key_expired = False

    def evict(self) -> bool:
        """See TreeUnderTest."""
        until_s = time.monotonic() + _DRAIN_S
        while self._vfs.session.reader.downloads.in_flight:
            assert time.monotonic() < until_s, "blocks stay in flight"
            time.sleep(0.001)
        self._vfs.session.cache.admin.clear()
        return True

    def remount(self) -> None:
        """See TreeUnderTest."""
        self._vfs.close()
        self._vfs = self._open()

    def close(self) -> None:
        """See TreeUnderTest."""
        self._vfs.close()

    def _open(self) -> VFS:
        options = {"version": VERSION, "datasets": [DATASET], "metadata": False}
        config = resolve({**options, "cache_dir": self._cache_dir, "cache_size": "1GiB"})
        return open_vfs(config, store=self._store)


def _url(name: str) -> str:
    return f"s3://{SHARING_BUCKET}/objects/{name}"
