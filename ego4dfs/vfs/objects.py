"""Objects: attributes and open versions of the files that are objects of the store.

An object's facts come from the index, from a copy on disk, or from its first request, which is a
HEAD request, or a GET request of bytes that will be read next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE, ObjectRef
from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    ObjectChanged,
    ObjectMissing,
    StoreUnavailable,
    detach,
)
from ego4dfs.reader import FIRST_AT_START, VideoWindow
from ego4dfs.session import Session
from ego4dfs.store import ObjectFacts
from ego4dfs.vfs.directory_readahead import MAX_FILE_BYTES, DirectoryReadahead
from ego4dfs.vfs.first_get import FirstGets
from ego4dfs.vfs.last_bytes import LastBytes
from ego4dfs.vfs.lookups import Lookups
from ego4dfs.vfs.tree import ObjectFile, Tree, inode, object_urls
from ego4dfs.vfs.values import Handle, Stat
from ego4dfs.vfs.video_facts import VIDEO_SUFFIX, VideoFacts

Fetch = Callable[[str], ObjectFacts]

OPEN_REFUSAL_VALID_S = 2.0
"""How long an open reuses an earlier refusal of the store: for the retries of one program."""
_MAX_UNKNOWN = 32  # objects of unknown facts that are fetched ahead at a time


class Objects:
    """The object files of a tree. Safe from several threads."""

    def __init__(
        self, session: Session, tree: Tree, video_facts: VideoFacts, first_gets: FirstGets
    ) -> None:
        """Use the parts of `session`, and read ahead in the directories of `tree`."""
        self._session = session
        self._first_gets = first_gets
        self._last_bytes = LastBytes(session)
        self._tree = tree
        self._video_facts = video_facts
        self._lookups = Lookups()
        self._readahead = DirectoryReadahead(
            tree,
            self._has_copy,
            session.facts.peek,
            self._prefetch,
            session.cache.readahead.current,
        )
        self._unknown = threading.Semaphore(_MAX_UNKNOWN)
        self._started_ns = time.time_ns()

    def stat(self, node: ObjectFile, caller: int | None) -> Stat:
        """Return the attributes of an object; see `VFS.stat`."""
        number = inode(node.path)
        try:
            facts = self._local_facts(node)
            if facts is None:
                facts = self._facts_of_lookup(node, caller)
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

    def open(
        self, node: ObjectFile, first_offset: int | None, *, reads_ahead: bool, reads_index: bool
    ) -> Handle:
        """Open the current version of an object; see `VFS.open`."""
        try:
            return self._open_confirmed(
                node, first_offset, reads_ahead=reads_ahead, reads_index=reads_index
            )
        except StoreUnavailable as error:
            if self._local_facts(node) is not None:
                raise  # the copy, if there is one, is not of this version
            facts = self._recorded_facts(node)
            copies = self._session.copies
            copy = copies.find_recorded(node.path, facts) if copies and facts else None
            if facts is None or copy is None:
                raise
            ref = self._ref(node.url, facts)
            return Handle(node.path, ref=ref, copy=copy, unreachable=detach(error))

    def confirm(self, handle: Handle) -> None:
        """Make sure that an open file has the size of its object; see `VFS.confirm`."""
        ref = handle.ref
        if ref is None or handle.copy is not None:
            return
        facts = self._session.facts.peek(ref.url)
        is_current = facts is not None and (facts.size, facts.etag) == (ref.size, ref.etag)
        if facts is not None and is_current and facts.has_confirmed_size:
            return
        try:
            first_bytes = handle.window.first_at_start if handle.window else FIRST_AT_START
            self._session.reader.confirm_size(ref, first_bytes)
        except ObjectChanged as error:
            self._session.facts.correct(ref.url, error)
            raise
        self._session.facts.confirm(ref.url, ref.size, ref.etag)

    def close(self) -> None:
        """Send no more requests ahead of reads."""
        self._last_bytes.close()

    def _facts_of_lookup(self, node: ObjectFile, caller: int | None) -> ObjectFacts:
        gets_bytes = self._readahead.is_requested(node.path)
        if not gets_bytes:  # else this waits for that request, or sends it if none was sent
            request = self._lookups.add(node.path, caller)
            gets_bytes = request.gets_bytes
            if request.sweeps:
                self._sweep_beside(node)
        if not gets_bytes or self._has_copy(node):
            return self._session.facts.get(node.url)
        first_get = self._first_get(node, None, reads_index=True)
        return self._session.facts.get(node.url, fetch=first_get)

    def _sweep_beside(self, node: ObjectFile) -> None:
        """Fetch the facts of all objects in the same directory, in the background."""
        siblings = self._tree.siblings(node.path)
        urls = object_urls(siblings)
        if self._session.copies is not None:
            files = (n for n in siblings.values() if isinstance(n, ObjectFile))
            urls = self._session.copies.without_record((n.path, n.url) for n in files)
        self._session.facts.sweep(urls)

    def _local_facts(self, node: ObjectFile) -> ObjectFacts | None:
        """Return facts without a request: from the index, or from the record of a copy."""
        facts = self._session.facts.peek(node.url)
        if facts is None and self._session.copies is not None:
            facts = self._session.copies.facts(node.path, node.url)
        return facts

    def _recorded_facts(self, node: ObjectFile) -> ObjectFacts | None:
        """Return facts of a copy from the official tool's record, for an unreachable store."""
        copies = self._session.copies
        return copies.recorded_facts(node.path, node.url) if copies is not None else None

    def _open_confirmed(
        self, node: ObjectFile, first_offset: int | None, *, reads_ahead: bool, reads_index: bool
    ) -> Handle:
        open_current = partial(self._open_current, reads_ahead=reads_ahead, reads_index=reads_index)
        handle = open_current(node, first_offset)
        if first_offset is None:
            try:
                self.confirm(handle)
            except ObjectChanged:  # no program has seen bytes of it yet
                handle = open_current(node, None)
                self.confirm(handle)
        return handle

    def _open_current(
        self, node: ObjectFile, first_offset: int | None, *, reads_ahead: bool, reads_index: bool
    ) -> Handle:
        self._lookups.opened(node.path)
        facts = self._local_facts(node)
        if facts is None:
            is_known_place = (first_offset or 0) >= 0 and not self._has_copy(node)
            reads_index |= first_offset is None
            first_get = self._first_get(node, first_offset, reads_index=reads_index)
            facts = self._session.facts.get(
                node.url,
                refusal_valid_s=OPEN_REFUSAL_VALID_S,
                fetch=first_get if is_known_place else None,
            )
        self._first_gets.note(node.url, facts.etag)
        copies = self._session.copies
        copy = copies.find_valid(node.path, node.url, facts) if copies else None
        if reads_ahead and copy is None and facts.size <= MAX_FILE_BYTES:
            self._readahead.opened(node, facts.size)
        ref = self._ref(node.url, facts)
        handle = Handle(node.path, ref=ref, copy=copy, drops=self._session.reader.drops(ref))
        if copy is None and node.path.endswith(VIDEO_SUFFIX):
            known = self._video_facts.fetch_ahead(ref) if first_offset is None else None
            start_bytes = PART_SIZE if known is not None else self._video_facts.start_bytes(ref.url)
            find = partial(self._video_facts.find, ref)
            handle.window = VideoWindow(find, known, first_at_start=start_bytes)
        return handle

    def _has_copy(self, node: ObjectFile) -> bool:
        return self._session.copies is not None and self._session.copies.exists(node.path)

    def _prefetch(self, node: ObjectFile, facts: ObjectFacts | None) -> bool:
        """Fetch a small object ahead, or the first block of an unknown one; False without room."""
        if facts is not None:
            return self._session.reader.prefetch_small(self._ref(node.url, facts))
        first_get = self._first_get(node, 0, reads_index=False)
        done = self._unknown.release
        if not self._unknown.acquire(blocking=False):
            return False
        is_queued = self._session.facts.fetch_ahead(node.url, first_get, done)
        if not is_queued:
            done()
        return is_queued

    def _ref(self, url: str, facts: ObjectFacts) -> ObjectRef:
        return ObjectRef.of(self._session.store.source, url, facts.size, facts.etag)

    def _first_get(self, node: ObjectFile, first_offset: int | None, *, reads_index: bool) -> Fetch:
        """Return a function that fetches the facts of an object together with its first bytes.

        `first_offset` is where it is read first, if that is known; then a whole block is fetched.
        If the program probably reads the index of a video, and that is probably at the end, the
        last bytes are fetched as well.
        """
        start = (first_offset or 0) // BLOCK_SIZE * BLOCK_SIZE
        stop, last = start + BLOCK_SIZE, 0
        if not start and node.path.endswith(VIDEO_SUFFIX):
            stop = self._video_facts.start_bytes(node.url)
            last = self._video_facts.last_bytes(node.url) if reads_index else 0
        elif first_offset is None and not self._readahead.has_small_files(node.path):
            stop = FIRST_AT_START

        def fetch(url: str) -> ObjectFacts:
            keep = self._last_bytes.request(url, last) if last else None
            facts = self._first_gets.fetch(url, range(start, stop))
            if keep is not None:
                keep(facts)
            return facts

        return fetch
