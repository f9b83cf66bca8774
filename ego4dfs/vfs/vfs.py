"""VFS: stat, listdir, open and read of the read-only tree, by the paths of a download.

The FUSE mount, the fsspec filesystem and the command line translate their calls to these; only
this module knows what a path or an offset means.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial

from ego4dfs.blocks import BLOCK_SIZE, ObjectRef
from ego4dfs.datasets import VIDEO_DATASETS
from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    Ego4DError,
    NotFound,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
    detach,
    renewed,
)
from ego4dfs.manifest import names_and_urls
from ego4dfs.reader import VideoWindow
from ego4dfs.session import Session
from ego4dfs.store import ObjectFacts
from ego4dfs.vfs.directory_readahead import MAX_FILE_BYTES, DirectoryReadahead
from ego4dfs.vfs.index_cache import IndexCache
from ego4dfs.vfs.tree import Directory, ManifestFile, Node, ObjectFile, Tree, inode, object_urls
from ego4dfs.vfs.values import DirEntry, Handle, Origin, Stat, Totals
from ego4dfs.vfs.video_facts import VIDEO_SUFFIX, VideoFacts
from ego4dfs.vfs.windows import HIDDEN_DIRECTORY, OpenWindow, Windows

log = logging.getLogger(__name__)

OPEN_REFUSAL_VALID_S = 2.0
"""How long an open reuses an earlier refusal of the store: for the retries of one program."""


class VFS:
    """The read-only tree of one version of Ego4D.

    Paths may have a leading or trailing slash. Safe from several threads. Raises NotFound for
    paths that are not listed, NotADirectoryError and IsADirectoryError, and StoreError for
    objects and manifests that cannot be fetched.
    """

    def __init__(
        self,
        session: Session,
        tree: Tree,
        video_datasets: Sequence[str] = VIDEO_DATASETS,
    ) -> None:
        """Serve `tree` with the parts of `session`, which `close` closes.

        `video_datasets` are searched, in this order, for the videos of windows.
        """
        self.session = session
        self.indexes = IndexCache()
        self._windows = Windows(self, video_datasets)
        self._tree = tree
        self._readahead = DirectoryReadahead(
            tree, self._readahead_facts, self._prefetch, session.cache.readahead.current
        )
        self.video_facts = VideoFacts(session.facts.media, session.reader, self.indexes.computing)
        self._started_ns = time.time_ns()
        self._lock = threading.Lock()  # guards the attaching of datasets

    def stat(self, path: str) -> Stat:
        """Return the attributes of a path.

        A listed object that the store refuses is a file of unknown size, because the manifest
        says that it exists. If the store does not answer, StoreError is raised: programs would
        believe a size of 0, and archive an empty file.
        """
        node = self.resolve(path)
        if isinstance(node, Directory):
            listing = self.session.catalog.peek(node.dataset) if node.dataset else None
            mtime_ns = listing.mtime_ns if listing else self._started_ns
            return Stat(inode(node.path), is_dir=True, size=0, mtime_ns=mtime_ns)
        if isinstance(node, ManifestFile):
            listing = self.session.catalog.listing(node.dataset)
            size = listing.size
            return Stat(inode(node.path), is_dir=False, size=size, mtime_ns=listing.mtime_ns)
        if isinstance(node, OpenWindow):
            mtime_ns = self.stat(node.video).mtime_ns
            return Stat(inode(node.path), is_dir=False, size=node.handle.size, mtime_ns=mtime_ns)
        return self._stat_object(node)

    def listdir(self, path: str) -> list[DirEntry]:
        """Return the names in a directory, in the manifest's order, without a HEAD request."""
        return [_entry(name, child) for name, child in self._children(path).items()]

    def listdir_known(self, path: str) -> list[tuple[DirEntry, Stat | None]]:
        """Return the names with the attributes that are known without a HEAD request."""
        children = self._children(path)
        known = self.session.facts.peek_many(object_urls(children))
        found = []
        for name, child in children.items():
            entry = _entry(name, child)
            facts = known.get(child.url) if isinstance(child, ObjectFile) else None
            found.append((entry, Stat.of(entry.inode, facts) if facts else None))
        return found

    def open(self, path: str, *, first_offset: int | None = None) -> Handle:
        """Open the current version of a file.

        If only a HEAD request reported its size, the request that a first read would send is sent
        now, and its answer confirms the size. `first_offset` is where the first read will be,
        from the end if negative: that read confirms the size, and an object whose facts are
        unknown costs one GET request of that block, instead of a HEAD and a GET request. A caller
        that then reads nothing must call `confirm`.
        """
        node = self.resolve(path)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if isinstance(node, ManifestFile):
            return Handle(node.path, content=self.session.catalog.listing(node.dataset).content)
        if isinstance(node, OpenWindow):
            return node.handle
        try:
            return self._open_object(node, first_offset)
        except StoreError as error:
            log.info("%s cannot be opened: %s", node.path, error)
            raise

    def confirm(self, handle: Handle) -> None:
        """Make sure that an open file has the size of its object.

        Raises ObjectChanged if it has another size; then it must be opened again. Raises StoreError
        if the size cannot be confirmed.
        """
        ref = handle.ref
        if ref is None or handle.copy is not None:
            return
        facts = self.session.facts.peek(ref.url)
        is_current = facts is not None and (facts.size, facts.etag) == (ref.size, ref.etag)
        if facts is not None and is_current and facts.has_confirmed_size:
            return
        try:
            self.session.reader.confirm_size(ref)
        except ObjectChanged as error:
            self.session.facts.correct(ref.url, error)
            raise
        self.session.facts.confirm(ref.url, ref.size, ref.etag)

    def read_into(self, handle: Handle, offset: int, view: memoryview) -> int:
        """Fill `view` with the bytes from `offset` on and return how many there were.

        At the end of the file there are fewer, after it 0. Raises ObjectChanged if the object was
        replaced since it was opened; then it must be opened again.
        """
        if handle.made is not None:
            return handle.made.read_into(offset, view)
        if handle.ref is None:
            part = handle.content[offset : offset + len(view)]
            view[: len(part)] = part
            return len(part)
        if handle.copy is not None and self.session.copies is not None:
            count = self.session.copies.read_into(handle.copy, offset, view)
            if count is not None:
                self.session.metrics.add_bytes_from_copies(count)
                return count
            handle.copy = None
            if handle.unreachable is not None:
                raise renewed(handle.unreachable)
        try:
            return self.session.reader.read_into(handle.ref, offset, view, handle.window)
        except ObjectChanged as error:
            self.session.facts.correct(handle.ref.url, error)
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

    def origin(self, path: str) -> Origin | None:
        """Return the object behind a path; None for directories and manifests."""
        node = self.resolve(path)
        if not isinstance(node, ObjectFile):
            return None
        return Origin(node.url, self.session.facts.peek(node.url))

    def resolve(self, path: str) -> Node | OpenWindow:
        """Return the node at a path; loads the manifest of its dataset if needed.

        Raises NotFound, NotADirectoryError, or the error of the manifest. A window is open then;
        StoreError is raised if it cannot be opened.
        """
        if path.strip("/").partition("/")[0] == HIDDEN_DIRECTORY:
            return self._windows.resolve(path.strip("/"))
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

    def known_totals(self) -> Totals:
        """Return the number and the bytes of the objects whose sizes are known."""
        return Totals(*self.session.facts.totals())

    def status(self) -> dict[str, object]:
        """Return the live counters and the state of the cache."""
        state, used_bytes, limit_bytes = "ok", 0, 0
        try:
            usage = self.session.cache.usage()
            used_bytes, limit_bytes = usage.used_bytes, usage.max_bytes
            state = "locked by another process" if usage.is_locked else state
        except (sqlite3.Error, OSError) as error:  # reads continue without it
            self.session.metrics.add_error(f"the cache index cannot be read: {error}")
            state = f"cannot be read: {error}"
        return {
            **self.session.metrics.snapshot(),
            "cache_bytes": used_bytes,
            "cache_limit_bytes": limit_bytes,
            "cache_state": state,
        }

    def close(self) -> None:
        """Close the session."""
        self.session.close()

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
            listing = self.session.catalog.listing(directory.dataset)
        except Ego4DError as error:
            log.info("%s cannot be entered: %s", directory.path, error)
            if not isinstance(error, StoreError):  # the store counts those itself
                self.session.metrics.add_error(str(error))
            raise
        with self._lock:
            if not self._tree.is_attached(directory):
                self._tree.attach(directory, names_and_urls(listing.entries))

    def _stat_object(self, node: ObjectFile) -> Stat:
        number = inode(node.path)
        try:
            facts = self._local_facts(node)
            if facts is None:
                if self._readahead.should_sweep(node.path):
                    siblings = self._tree.siblings(node.path)
                    urls = object_urls(siblings)
                    if self.session.copies is not None:
                        files = (n for n in siblings.values() if isinstance(n, ObjectFile))
                        urls = self.session.copies.without_record((n.path, n.url) for n in files)
                    self.session.facts.sweep(urls)
                facts = self.session.facts.get(node.url)
        except StoreUnavailable:
            recorded = self._recorded_facts(node)
            if recorded is None:
                raise
            return Stat.of(number, recorded)
        except CredentialsRejected:
            raise  # the key is rejected, not this object
        except (AccessDenied, ObjectMissing):
            return Stat(number, is_dir=False, size=0, mtime_ns=self._started_ns, is_known=False)
        return Stat.of(number, facts)

    def _local_facts(self, node: ObjectFile) -> ObjectFacts | None:
        """Return facts without a request: from the index, or from the record of a copy."""
        facts = self.session.facts.peek(node.url)
        if facts is None and self.session.copies is not None:
            facts = self.session.copies.facts(node.path, node.url)
        return facts

    def _recorded_facts(self, node: ObjectFile) -> ObjectFacts | None:
        """Return facts of a copy from the official tool's record, for an unreachable store."""
        copies = self.session.copies
        return copies.recorded_facts(node.path, node.url) if copies is not None else None

    def _open_object(self, node: ObjectFile, first_offset: int | None) -> Handle:
        try:
            return self._open_confirmed(node, first_offset)
        except StoreUnavailable as error:
            if self._local_facts(node) is not None:
                raise  # the copy, if there is one, is not of this version
            facts = self._recorded_facts(node)
            copies = self.session.copies
            copy = copies.find_recorded(node.path, facts) if copies and facts else None
            if facts is None or copy is None:
                raise
            ref = self._ref(node.url, facts)
            return Handle(node.path, ref=ref, copy=copy, unreachable=detach(error))

    def _open_confirmed(self, node: ObjectFile, first_offset: int | None) -> Handle:
        handle = self._open_current(node, first_offset)
        if first_offset is None:
            try:
                self.confirm(handle)
            except ObjectChanged:  # no program has seen bytes of it yet
                handle = self._open_current(node, None)
                self.confirm(handle)
        return handle

    def _open_current(self, node: ObjectFile, first_offset: int | None) -> Handle:
        facts = self._local_facts(node)
        if facts is None:
            is_known_place = (
                first_offset is not None and first_offset >= 0 and not self._has_copy(node)
            )
            index = first_offset // BLOCK_SIZE if first_offset and is_known_place else 0
            facts = self.session.facts.get(
                node.url,
                refusal_valid_s=OPEN_REFUSAL_VALID_S,
                fetch=(lambda url: self._facts_by_first_get(url, index))
                if is_known_place
                else None,
            )
        copies = self.session.copies
        copy = copies.find_valid(node.path, node.url, facts) if copies else None
        if copy is None and facts.size <= MAX_FILE_BYTES:
            self._readahead.opened(node)
        ref = self._ref(node.url, facts)
        handle = Handle(node.path, ref=ref, copy=copy, drops=self.session.reader.drops(ref))
        if copy is None and node.path.endswith(VIDEO_SUFFIX):
            handle.window = VideoWindow(partial(self.video_facts.find, ref))
            if first_offset is None:
                self.video_facts.fetch_ahead(ref)
        return handle

    def _readahead_facts(self, node: ObjectFile) -> ObjectFacts | None:
        """Return the facts of an object that may be fetched ahead; None if it has a copy."""
        return None if self._has_copy(node) else self.session.facts.peek(node.url)

    def _has_copy(self, node: ObjectFile) -> bool:
        return self.session.copies is not None and self.session.copies.exists(node.path)

    def _prefetch(self, node: ObjectFile, facts: ObjectFacts) -> bool:
        return self.session.reader.prefetch_small(self._ref(node.url, facts))

    def _ref(self, url: str, facts: ObjectFacts) -> ObjectRef:
        return ObjectRef.of(self.session.store.source, url, facts.size, facts.etag)

    def _facts_by_first_get(self, url: str, index: int) -> ObjectFacts:
        """Fetch one block of an object of unknown facts, and return the facts that come with it."""
        start = index * BLOCK_SIZE
        try:
            fetched = self.session.store.read_range(url, start, start + BLOCK_SIZE)
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            return self.session.store.head(url)  # the offset may be after the end
        self.session.reader.put(self._ref(url, fetched.facts), index, fetched.data)
        return fetched.facts.confirmed()


def _entry(name: str, child: Node) -> DirEntry:
    return DirEntry(name, inode(child.path), isinstance(child, Directory))
