"""VFS: stat, listdir, open and read of the read-only tree, by the paths of a download.

The FUSE mount, the fsspec filesystem and the command line translate their calls to these; only
this module knows what a path or an offset means.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence

from ego4dfs.datasets import VIDEO_DATASETS
from ego4dfs.errors import (
    Ego4DError,
    NotFound,
    ObjectChanged,
    StoreError,
    renewed,
)
from ego4dfs.manifest import names_and_urls
from ego4dfs.session import Session
from ego4dfs.vfs.first_get import FirstGets
from ego4dfs.vfs.index_cache import IndexCache
from ego4dfs.vfs.objects import Objects
from ego4dfs.vfs.tree import Directory, ManifestFile, Node, ObjectFile, Tree, inode
from ego4dfs.vfs.values import DirEntry, Handle, Origin, Stat, Totals
from ego4dfs.vfs.video_facts import VideoFacts
from ego4dfs.vfs.windows import HIDDEN_DIRECTORY, OpenWindow, Windows

log = logging.getLogger(__name__)

_LISTED_AT_ONCE = 1000
"""Nodes and facts of so many names are in memory beside what is returned for all of them."""


class VFS:
    """The read-only tree of one version of Ego4D.

    Slashes at the ends of a path, and several in a row, mean nothing. Safe from several threads.
    Raises NotFound for paths that are not listed, NotADirectoryError and IsADirectoryError, and
    StoreError for objects and manifests that cannot be fetched.
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
        self.video_facts = VideoFacts(session.facts.media, session.reader, self.indexes.computing)
        self.first_gets = FirstGets(session)
        self._objects = Objects(session, tree, self.video_facts, self.first_gets)
        self._started_ns = time.time_ns()
        self._lock = threading.Lock()  # guards the attaching of datasets

    def stat(self, path: str, caller: int | None = None) -> Stat:
        """Return the attributes of a path.

        `caller` is the thread of a program for which a kernel looks up the path: programs that
        open what they look up get an object's first bytes by the same request.
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
        return self._objects.stat(node, caller)

    def listdir(self, path: str) -> list[DirEntry]:
        """Return the names in a directory, in the manifest's order, without a HEAD request."""
        return [_entry(name, child) for name, child in self._children(path).items()]

    def listdir_known(self, path: str) -> list[tuple[DirEntry, Stat | None]]:
        """Return the names with the attributes that are known without a HEAD request."""
        found = []
        children = iter(self._children(path).items())  # nodes are made on access: some at a time
        while some := list(itertools.islice(children, _LISTED_AT_ONCE)):
            urls = [child.url for _, child in some if isinstance(child, ObjectFile)]
            known = self.session.facts.peek_many(urls)
            for name, child in some:
                entry = _entry(name, child)
                facts = known.get(child.url) if isinstance(child, ObjectFile) else None
                found.append((entry, Stat.of(entry.inode, facts) if facts else None))
        return found

    def open(
        self,
        path: str,
        *,
        first_offset: int | None = None,
        reads_ahead: bool = True,
        reads_index: bool = False,
    ) -> Handle:
        """Open the current version of a file.

        If only a HEAD request reported its size, the request that a first read would send is sent
        now, and its answer confirms the size. `first_offset` is where the first read will be,
        from the end if negative: that read confirms the size, and an object whose facts are
        unknown costs one GET request of that block, instead of a HEAD and a GET request. A caller
        that then reads nothing must call `confirm`. Unless `reads_ahead`, the open does not count
        as one of a program that goes through a directory of small files. With `reads_index`, the
        index of a video is read next, wherever it is.
        """
        node = self.resolve(path)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if isinstance(node, ManifestFile):
            return Handle(node.path, content=self.session.catalog.listing(node.dataset).content)
        if isinstance(node, OpenWindow):
            return node.handle
        try:
            return self._objects.open(
                node, first_offset, reads_ahead=reads_ahead, reads_index=reads_index
            )
        except StoreError as error:
            log.info("%s cannot be opened: %s", node.path, error)
            raise

    def confirm(self, handle: Handle) -> None:
        """Make sure that an open file has the size of its object.

        Raises ObjectChanged if it has another size; then it must be opened again. Raises StoreError
        if the size cannot be confirmed.
        """
        self._objects.confirm(handle)

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
                self.session.metrics.recent_reads.add(handle.path, count, 0)
                return count
            handle.copy = None
            if handle.unreachable is not None:
                raise renewed(handle.unreachable)
        try:
            count = self.session.reader.read_into(handle.ref, offset, view, handle.window)
        except ObjectChanged as error:
            self.session.facts.correct(handle.ref.url, error)
            log.info("%s changed in the store while it was open", handle.path)
            raise
        except StoreError as error:
            log.info("%s cannot be read: %s", handle.path, error)
            raise
        missed = handle.window.take_missed() if handle.window is not None else 0
        self.session.metrics.recent_reads.add(handle.path, count, missed)
        return count

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
        for name in filter(None, path.split("/")):
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
        self._objects.close()
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


def _entry(name: str, child: Node) -> DirEntry:
    return DirEntry(name, inode(child.path), isinstance(child, Directory))
