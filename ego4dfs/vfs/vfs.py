"""VFS: stat, listdir, open and read on paths as they are in a download.

Every face (the FUSE mount, the fsspec filesystem, the command line) translates to these calls;
what a path or an offset means is written here once.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from functools import partial

from ego4dfs.blocks import BLOCK_SIZE, ObjectRef
from ego4dfs.cache import CLOSE_WAIT_S, BlockCache
from ego4dfs.catalog import Catalog
from ego4dfs.copies import Copies
from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    Ego4DError,
    NotFound,
    ObjectChanged,
    ObjectMissing,
    StoreError,
)
from ego4dfs.facts import FactsIndex
from ego4dfs.manifest import files_of
from ego4dfs.metrics import Metrics
from ego4dfs.reader import Reader
from ego4dfs.runtime.deadline import CLOSE_S, Deadline
from ego4dfs.runtime.workers import Overdue, within
from ego4dfs.store import ObjectFacts, ObjectStore
from ego4dfs.tree import Directory, ManifestFile, Node, ObjectFile, Tree, inode, object_urls
from ego4dfs.vfs.directory_readahead import MAX_FILE_BYTES, DirectoryReadahead
from ego4dfs.vfs.values import DirEntry, Handle, Stat

log = logging.getLogger(__name__)

_DISK_S = CLOSE_S * 0.9  # the cache's writer has ended by then, or is given up in words of its own

OPEN_REFUSAL_KEPT_S = 2.0
"""How long an open believes an earlier refusal: long enough for one program's retries."""


class VFS:
    """The read-only tree of one version of Ego4D.

    Paths may have a leading or trailing slash. Safe from several threads. Raises NotFound for
    paths that are not listed, NotADirectoryError and IsADirectoryError, and StoreError for what
    is listed but cannot be had.
    """

    def __init__(
        self,
        tree: Tree,
        catalog: Catalog,
        facts: FactsIndex,
        reader: Reader,
        *,
        store: ObjectStore,
        cache: BlockCache,
        metrics: Metrics,
    ) -> None:
        """Join the parts; `open_vfs` makes them from a Config."""
        self.copies: Copies | None = None  # a place to look at before cache and store
        self.metrics = metrics
        self.cache = cache
        self.catalog = catalog
        self._tree = tree
        self.facts = facts
        self._reader = reader
        self._readahead = DirectoryReadahead(
            tree, self._weighed, self._fetch_soon, cache.ahead.bounds
        )
        self.store = store
        self._started_ns = time.time_ns()
        self._lock = threading.Lock()  # guards the attaching of datasets

    def stat(self, path: str) -> Stat:
        """Return what a path is.

        A listed object that the store refuses is a file of unknown size: the manifest's word that
        it exists stands. One that cannot be asked about now raises StoreError: a size of 0 would
        be believed, and archived.
        """
        node = self.resolve(path)
        if isinstance(node, Directory):
            listing = self.catalog.peek(node.dataset) if node.dataset else None
            mtime_ns = listing.mtime_ns if listing else self._started_ns
            return Stat(inode(node.path), is_dir=True, size=0, mtime_ns=mtime_ns)
        if isinstance(node, ManifestFile):
            listing = self.catalog.listing(node.dataset)
            size = listing.size
            return Stat(inode(node.path), is_dir=False, size=size, mtime_ns=listing.mtime_ns)
        return self._stat_object(node)

    def listdir(self, path: str) -> list[DirEntry]:
        """Return the names in a directory, in the manifest's order, without a HEAD."""
        return [_entry(name, child) for name, child in self._children(path).items()]

    def listdir_known(self, path: str) -> list[tuple[DirEntry, Stat | None]]:
        """Return the same with what the index of facts tells of each object, without a HEAD."""
        children = self._children(path)
        known = self.facts.peek_many(object_urls(children))
        found = []
        for name, child in children.items():
            entry = _entry(name, child)
            facts = known.get(child.url) if isinstance(child, ObjectFile) else None
            found.append((entry, Stat.of(entry.inode, facts) if facts else None))
        return found

    def open(self, path: str, *, first_offset: int | None = None) -> Handle:
        """Open a file at the version that is current now.

        `first_offset` says where it will be read first: an object whose facts are not known then
        costs one GET of that block, not a HEAD and a GET.
        """
        node = self.resolve(path)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if isinstance(node, ManifestFile):
            return Handle(node.path, content=self.catalog.listing(node.dataset).content)
        try:
            return self._open_object(node, first_offset)
        except StoreError as error:
            log.info("%s cannot be opened: %s", node.path, error)
            raise

    def read_into(self, handle: Handle, offset: int, view: memoryview) -> int:
        """Fill `view` with the bytes from `offset` on and return how many there were.

        Past the end the result is short, then 0, as POSIX asks. Raises ObjectChanged when the
        object is no longer the one that was opened; it must be opened again.
        """
        if handle.ref is None:
            part = handle.content[offset : offset + len(view)]
            view[: len(part)] = part
            return len(part)
        if handle.copy is not None and self.copies is not None:
            count = self.copies.read_into(handle.copy, offset, view)
            if count is not None:
                self.metrics.add("bytes_from_copies", count)
                self.metrics.add("bytes_served", count)
                return count
            handle.copy = None
        try:
            return self._reader.read_into(handle.ref, offset, view, handle.window)
        except ObjectChanged as error:
            self.facts.correct(handle.ref.url, error)
            log.info("%s changed in the store while it was open", handle.path)
            raise
        except StoreError as error:
            log.info("%s cannot be read: %s", handle.path, error)
            raise

    def read(self, handle: Handle, offset: int, size: int) -> bytes:
        """Return the bytes of [offset, offset + size) that exist."""
        buffer = bytearray(max(0, min(size, handle.size - offset)))
        count = self.read_into(handle, offset, memoryview(buffer))
        return bytes(memoryview(buffer)[:count])  # one copy, not two

    def xattrs(self, path: str) -> dict[str, str]:
        """Return the extended attributes of a path: where its bytes come from, and which ones."""
        node = self.resolve(path)
        if not isinstance(node, ObjectFile):
            return {}
        attributes = {"user.ego4dfs.s3_uri": node.url}
        facts = self.facts.peek(node.url)
        if facts is not None:
            attributes["user.ego4dfs.etag"] = facts.etag
            if facts.version_id:
                attributes["user.ego4dfs.version_id"] = facts.version_id
        return attributes

    def resolve(self, path: str) -> Node:
        """Return the node at a path, loading the manifests on the way.

        Raises NotFound, NotADirectoryError, or why a manifest cannot be had.
        """
        node: Node = self._tree.root
        for name in path.strip("/").split("/") if path.strip("/") else ():
            if not isinstance(node, Directory):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            child = self._tree.child(node, name)
            if child is None:
                self._attach(node)
                child = self._tree.child(node, name)
            if child is None:
                raise NotFound(f"no such file or directory: {path}")
            node = child
        return node

    def weighed(self) -> tuple[int, int]:
        """Return how many objects were weighed so far, and their bytes."""
        return self.facts.totals()

    def status(self) -> dict[str, object]:
        """Return the live counters and the state of the cache."""
        state, used_bytes, limit_bytes = "ok", 0, 0
        try:
            figures = self.cache.look()
            used_bytes, limit_bytes = figures.used_bytes, figures.max_bytes
            state = "locked by another process" if figures.is_held else state
        except (sqlite3.Error, OSError) as error:  # reads go on without it
            self.metrics.error(f"the cache index cannot be read: {error}")
            state = f"cannot be read: {error}"
        return {
            **self.metrics.snapshot(),
            "cache_bytes": used_bytes,
            "cache_limit_bytes": limit_bytes,
            "cache_state": state,
        }

    def close(self) -> None:
        """Finish requests and writes under way and let go of everything, in CLOSE_S seconds."""
        try:
            within(CLOSE_S, partial(self._close, Deadline.after(_DISK_S)), name="close")
        except Overdue:
            log.warning("closed while something below hangs; what was not written is left out")

    def _close(self, disk: Deadline) -> None:
        self.store.close()  # first: what waits to try a request again need not be waited for
        self.facts.close()
        self._reader.close()
        if self.copies is not None:
            self.copies.close()
        self.cache.close(max(CLOSE_WAIT_S, disk.remaining_s))  # what nobody else needed, too

    def _children(self, path: str) -> Mapping[str, Node]:
        node = self.resolve(path)
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self._attach(node)
        return self._tree.children(node)

    def _attach(self, directory: Directory) -> None:
        if self._tree.is_attached(directory):
            return
        try:
            listing = self.catalog.listing(directory.dataset)
        except Ego4DError as error:
            log.info("%s cannot be entered: %s", directory.path, error)
            if not isinstance(error, StoreError):  # those are counted where they come from
                self.metrics.error(str(error))
            raise
        with self._lock:
            if not self._tree.is_attached(directory):
                self._tree.attach(directory, files_of(listing.entries))

    def _stat_object(self, node: ObjectFile) -> Stat:
        number = inode(node.path)
        try:
            facts = self._known(node)
            if facts is None:
                if self._readahead.should_sweep(node.path):
                    siblings = self._tree.siblings(node.path)
                    urls = object_urls(siblings)
                    if self.copies is not None:
                        files = (n for n in siblings.values() if isinstance(n, ObjectFile))
                        urls = self.copies.without_record((n.path, n.url) for n in files)
                    self.facts.sweep(urls)
                facts = self.facts.get(node.url)
        except CredentialsRejected:
            raise  # says something about the key, nothing about the object
        except (AccessDenied, ObjectMissing):
            return Stat(number, is_dir=False, size=0, mtime_ns=self._started_ns, is_known=False)
        return Stat.of(number, facts)

    def _known(self, node: ObjectFile) -> ObjectFacts | None:
        """Return facts without a request: those of the index, else those of a copy."""
        facts = self.facts.peek(node.url)
        if facts is None and self.copies is not None:
            facts = self.copies.facts(node.path, node.url)
        return facts

    def _open_object(self, node: ObjectFile, first_offset: int | None) -> Handle:
        facts = self._known(node)
        if facts is None:
            there = self.copies is not None and self.copies.is_there(node.path)
            index = None if first_offset is None or there else first_offset // BLOCK_SIZE
            facts = self.facts.get(
                node.url,
                refusal_kept_s=OPEN_REFUSAL_KEPT_S,
                ask=None if index is None else lambda url: self._introduce(url, index),
            )
        copy = self.copies.right(node.path, node.url, facts) if self.copies else None
        if copy is None and facts.size <= MAX_FILE_BYTES:
            self._readahead.opened(node)
        ref = self._ref(node.url, facts)
        return Handle(node.path, ref=ref, copy=copy, drops=self._reader.drops(ref))

    def _weighed(self, node: ObjectFile) -> ObjectFacts | None:
        """Return the facts of an object that may be fetched ahead: not if there is a copy."""
        has_copy = self.copies is not None and self.copies.is_there(node.path)
        return None if has_copy else self.facts.peek(node.url)

    def _fetch_soon(self, node: ObjectFile, facts: ObjectFacts) -> bool:
        return self._reader.fetch_soon(self._ref(node.url, facts))

    def _ref(self, url: str, facts: ObjectFacts) -> ObjectRef:
        return ObjectRef.of(self.store.source, url, facts.size, facts.etag)

    def _introduce(self, url: str, index: int) -> ObjectFacts:
        """Fetch one block of an object that is not known yet, and return the facts with it."""
        start = index * BLOCK_SIZE
        try:
            fetched = self.store.read_range(url, start, start + BLOCK_SIZE)
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            return self.store.head(url)  # the offset may lie behind the end
        self._reader.admit(self._ref(url, fetched.facts), index, fetched.data)
        return fetched.facts


def _entry(name: str, child: Node) -> DirEntry:
    return DirEntry(name, inode(child.path), isinstance(child, Directory))
