"""VideoFacts: the media facts of videos, and where the indexes of a dataset's videos are."""

from __future__ import annotations

import functools
import importlib
import logging
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ego4dfs.blocks import PART_SIZE, ObjectRef
from ego4dfs.errors import MediaError
from ego4dfs.facts import MediaFacts, MediaTable
from ego4dfs.reader import FIRST_AT_START, GROUP_REQUEST_BYTES, Reader
from ego4dfs.reader.window import READAHEAD_STEP
from ego4dfs.runtime.recent import Recent

if TYPE_CHECKING:
    from ego4dfs.media import MediaIndex  # numpy takes 0.1 s

log = logging.getLogger(__name__)

VIDEO_SUFFIX = ".mp4"
MAX_PARSED_BYTES = 8 << 20
"""A longer index is not parsed for a mount: four hours of video with sound have 8 MB."""
MAX_GUESS_BYTES = 2 << 20
"""The most that is fetched at an open in the belief that the index is there."""
MAX_FACTS_BYTES = 4 << 20
"""How much memory media facts take, beside those of open files: 8 KB for 20 minutes of video."""
_MAX_UNUSABLE_BYTES = 64 << 10
_UNUSABLE_BYTES = 100  # an object id
_PLACES_READ = 16  # of a dataset, from the table


@functools.cache
def import_parser() -> None:
    """Begin to import the parser of indexes in a thread, once: it takes 0.1 s.

    Not for processes that may fork: the child would wait for ever for the lock of the import.
    """
    load = functools.partial(importlib.import_module, "ego4dfs.media")
    try:
        threading.Thread(target=load, name="media", daemon=True).start()
    except RuntimeError as error:
        log.info("the parser of indexes is imported at the first seek: %s", error)


class _NotCachedError(Exception):
    """Some bytes of an index are not cached."""


@dataclass(slots=True)
class _Places:
    """How many bytes at the start and at the end held the indexes of a directory's videos."""

    head: int = 0
    tail: int = 0

    def add(self, size: int, index: range) -> None:
        """Record where the index of a video of `size` bytes is."""
        tail = size - index.start
        if index.stop <= tail:
            self.head = max(self.head, min(index.stop, MAX_GUESS_BYTES))
        else:
            self.tail = max(self.tail, min(tail, MAX_GUESS_BYTES))


class VideoFacts:
    """Media facts by object version: from memory, from disk, or from the cached bytes of its index.

    Safe from several threads; `_lock` guards `_places` and is not held during I/O.
    """

    def __init__(self, table: MediaTable, reader: Reader, parsing: threading.Lock) -> None:
        """Use the facts of `table`, and what `reader` has cached; `parsing` is held to parse."""
        self._table = table
        self._reader = reader
        self._parsing = parsing
        self._kept: Recent[MediaFacts] = Recent(MAX_FACTS_BYTES)
        self._unusable: Recent[bool] = Recent(_MAX_UNUSABLE_BYTES)
        self._places: dict[str, _Places] = {}
        self._lock = threading.Lock()

    def find(self, ref: ObjectRef) -> MediaFacts | None:
        """Return the facts of a video, or None if its index is not cached or cannot be used.

        Makes no request, and raises nothing: a read goes on without them.
        """
        try:
            facts = self._recorded(ref)
            if facts is None and not self._unusable.get(ref.object_id):
                facts = self._parse(ref)
        except Exception:  # such as too little memory
            log.debug("%s is read without its index", ref.url, exc_info=True)
            return None
        return facts

    def record(self, ref: ObjectRef, index: MediaIndex) -> MediaFacts | None:
        """Record the facts of an index, and return them; None if facts cannot describe it."""
        facts = self._table.record(ref.url, ref.size, ref.etag, index)
        if facts is not None:
            self._keep(ref, facts)
        return facts

    def request_window(self, ref: ObjectRef, start_s: float, end_s: float) -> None:
        """Request about the bytes of a window, without waiting, if the media facts are recorded.

        Otherwise they would be requested when the index has been read, one round trip later.
        """
        facts = self._recorded(ref)
        if facts is not None and 0 <= start_s < end_s < math.inf:
            wanted = facts.bytes_near(start_s, end_s)
            if len(wanted) <= READAHEAD_STEP:
                self._reader.request_parts(ref, [wanted], GROUP_REQUEST_BYTES)

    def start_bytes(self, url: str) -> int:
        """Return how many bytes to request first at the start of a video, in whole parts.

        That is what probably holds its index, if the index is at the start, else one part.
        """
        places = self._places_beside(url)
        if not (places.head or places.tail):
            return FIRST_AT_START
        return max(PART_SIZE, -(-places.head // PART_SIZE) * PART_SIZE)

    def last_bytes(self, url: str) -> int:
        """Return how many bytes at the end of a video probably hold its index, as whole parts.

        0 if the indexes of the other videos of its directory are at the start, or unknown.
        """
        tail = self._places_beside(url).tail
        return tail + PART_SIZE if tail else 0  # a part more: where parts begin is not known

    def fetch_ahead(self, ref: ObjectRef) -> MediaFacts | None:
        """Request the index of a video that is being opened, if its place is known or probable.

        Programs read it before any picture, but must read the start of the file to find it.
        Returns the facts if they are recorded.
        """
        facts = self._recorded(ref)
        if facts is not None:
            if len(facts.index) <= MAX_PARSED_BYTES:
                self._fetch(ref, facts.index)
            return facts
        places = self._places_beside(ref.url)
        self._fetch(ref, range(min(ref.size, places.head)))
        self._fetch(ref, range(max(0, ref.size - places.tail), ref.size))
        return None

    def _fetch(self, ref: ObjectRef, wanted: range) -> None:
        """Request a range; from the start of the file on, if it begins in the first part."""
        if wanted:
            start = wanted.start if wanted.start > PART_SIZE else 0
            self._reader.request_parts(ref, [range(start, wanted.stop)])

    def _recorded(self, ref: ObjectRef) -> MediaFacts | None:
        facts = self._kept.get(ref.object_id)
        if facts is None:
            facts = self._table.get(ref.url, ref.size, ref.etag)
            if facts is not None:
                self._keep(ref, facts)
        return facts

    def _parse(self, ref: ObjectRef) -> MediaFacts | None:
        from ego4dfs.media import find_index, parse_index  # noqa: PLC0415 - numpy takes 0.1 s

        facts = None
        try:
            found = find_index(ref.size, lambda *place: self._cached(ref, *place))
            with self._parsing:
                facts = self.record(ref, parse_index(found))
        except _NotCachedError:
            return None
        except MediaError as error:
            log.debug("%s is read without its index: %s", ref.url, error)
        if facts is None:
            self._unusable.put(ref.object_id, True, _UNUSABLE_BYTES)
        return facts

    def _cached(self, ref: ObjectRef, offset: int, length: int) -> bytes:
        """Return bytes that are cached. Raises MediaError for too many of them."""
        if length > MAX_PARSED_BYTES:
            raise MediaError(f"its index has {length} bytes; the limit is {MAX_PARSED_BYTES}")
        data = self._reader.read_cached(ref, offset, length)
        if data is None:
            raise _NotCachedError
        return data

    def _keep(self, ref: ObjectRef, facts: MediaFacts) -> None:
        places = self._places_beside(ref.url)
        with self._lock:
            places.add(ref.size, facts.index)
        self._kept.put(ref.object_id, facts, facts.nbytes)

    def _places_beside(self, url: str) -> _Places:
        """Return what is known of the videos in the same directory of the store."""
        directory = url.rpartition("/")[0] + "/"
        with self._lock:
            places = self._places.get(directory)
        if places is None:
            read = _Places()
            for place in self._table.places(directory, _PLACES_READ):
                read.add(*place)
            with self._lock:
                places = self._places.setdefault(directory, read)
        return places
