"""NearStore: an ObjectStore that reads the near tier first, and the far store when it must."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import ObjectChanged, StoreError, StoreUnavailable
from ego4dfs.near.chunks import (
    CHUNK_BYTES,
    Damaged,
    chunks_of,
    facts_line,
    facts_name,
    manifest_name,
    media_name,
    parsed_facts,
)
from ego4dfs.near.lease import Lease, Leases
from ego4dfs.near.shared_facts import MAX_KEYS, SharedFacts
from ego4dfs.near.tier import NearFailed, NearTier
from ego4dfs.near.transfer import Parts, Transfer
from ego4dfs.near.writes import Writes
from ego4dfs.runtime.recent import Recent
from ego4dfs.store import Fetched, ObjectFacts, ObjectStore, Sink, place_of
from ego4dfs.store.response_checks import pin_of

log = logging.getLogger(__name__)

MAX_MANIFEST_BYTES = 64 << 20
_SUFFIX_LEASE = "-suffix"


class NearStore:
    """Reads objects from the near tier, and from `far` what it lacks. See ObjectStore.

    What the near tier sends is checked; whatever is wrong with it costs a request to the far store.
    With `fills`, what was fetched is written to the near tier in the background. Safe from several
    threads.
    """

    def __init__(self, far: ObjectStore, tier: NearTier, *, fills: bool) -> None:
        """Read `tier` before `far`."""
        self.far = far
        self.tier = tier
        self._fills = fills
        self.writes = Writes(tier)
        self.parts = Parts(tier, self.writes, Leases(tier), Recent(tier.limits.memory_bytes))
        self.shared = SharedFacts(far.source, tier, self.writes, fills=fills)
        self._refs: Recent[ObjectRef] = Recent(MAX_KEYS)  # the last versions read, by URL
        self._distrusted: Recent[bool] = Recent(MAX_KEYS)  # by URL
        self._urls: Recent[str] = Recent(MAX_KEYS)  # by ETag

    @property
    def source(self) -> str:
        """The far store's: the bytes are the same."""
        return self.far.source

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore. The near tier is asked only if the far store does not answer.

        Its answer is shared with other nodes.
        """
        try:
            facts = self.far.head(url)
        except StoreUnavailable:
            known = self._known(url)
            if known is None:
                raise
            log.info("%s: the store does not answer; its facts are those of the near tier", url)
            return known
        if self._is_kept(url, facts):
            self.shared.add(url, facts, time.time())
        return facts

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore. Facts of bytes that were all near have no time, if `etag` is given."""
        if not etag:
            return self._first(url, start, stop)
        place = place_of(start, stop, size or 0)
        if size is None or not place or not self._serves(url, etag):
            return self.far.read_range(url, start, stop, etag=etag, size=size)
        return self._pinned(self._ref(url, size, etag), place.start, place.stop)

    def stream_range(
        self,
        url: str,
        start: int,
        stop: int,
        sink: Sink,
        *,
        etag: str,
        size: int | None = None,
    ) -> None:
        """See ObjectStore."""
        if size is None or not self._serves(url, etag):
            self.far.stream_range(url, start, stop, sink, etag=etag, size=size)
            return

        def far(place: range, take: Sink) -> None:
            self.far.stream_range(url, place.start, place.stop, take, etag=etag, size=size)

        ref = self._ref(url, size, etag)
        Transfer(self.parts, ref, range(start, stop), sink, fills=self._fills).run(far)

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore. A body that the near tier has is revalidated, and not fetched."""
        known = None if unless_etag or url in self._distrusted else self._manifest(url)
        try:
            fetched = self.far.read(url, unless_etag=known.facts.etag if known else unless_etag)
        except StoreUnavailable:
            if known is None:
                raise
            log.warning("%s: the store does not answer; the near tier's is used", url)
            return known
        if fetched is None:
            return known
        if self._fills and fetched.facts.etag and len(fetched.data) <= MAX_MANIFEST_BYTES:
            content = b"".join((facts_line(url, fetched.facts), fetched.data))
            self.writes.put(manifest_name(self.source, url), content, None)
        return fetched

    def renew(self, url: str) -> None:
        """See ObjectStore. The far store sends this object from now on: bytes of it were wrong.

        With `fills`, the near tier forgets it, so that other nodes do not get these bytes.
        """
        self.far.renew(url)
        if url in self._distrusted:
            return
        self._distrusted.put(url, True)
        if not self._fills:
            return
        ref = self._refs.get(url)
        chunks = chunks_of(ref, 0, ref.size) if ref is not None else ()
        names = [chunk.name for chunk in chunks]
        if ref is not None:
            names.append(media_name(ref))
        self.writes.remove([facts_name(self.source, url), manifest_name(self.source, url), *names])

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is written to the near tier; return whether it was in time."""
        self.shared.write()
        return self.writes.flush(timeout_s)

    def close(self) -> None:
        """See ObjectStore. Writes are finished within a bounded time."""
        self.far.close()
        self.shared.close()
        self.writes.close()
        self.tier.bucket.close()

    def _serves(self, url: str, etag: str) -> bool:
        """Return whether the near tier may have bytes of this version."""
        return bool(pin_of(etag)) and url not in self._distrusted

    def _ref(self, url: str, size: int, etag: str) -> ObjectRef:
        ref = self._refs.get(url)
        if ref is None or (ref.size, ref.etag) != (size, etag):
            ref = ObjectRef.of(self.source, url, size, etag)
            self._refs.put(url, ref)
        return ref

    def _pinned(self, ref: ObjectRef, start: int, stop: int) -> Fetched:
        pieces: list[memoryview] = []
        facts = ObjectFacts(ref.size, ref.etag, "", 0)

        def far(place: range, take: Sink) -> None:
            nonlocal facts
            fetched = self.far.read_range(
                ref.url, place.start, place.stop, etag=ref.etag, size=ref.size
            )
            facts = fetched.facts
            take(place.start, fetched.data)

        def keep(offset: int, data: memoryview) -> None:
            del offset
            pieces.append(data)

        Transfer(self.parts, ref, range(start, stop), keep, fills=self._fills).run(far)
        data = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        return Fetched(data, start, facts)

    def _first(self, url: str, start: int, stop: int) -> Fetched:
        """Fetch bytes of an object of which nothing is known here, and its facts."""
        if url in self._distrusted:
            return self.far.read_range(url, start, stop)
        found = self._first_near(url, start, stop)
        if found is not None:
            return found
        if not self._fills or not self.tier.is_fillable():
            return self.far.read_range(url, start, stop)
        # Nodes that fetch the first bytes do not wait for those that fetch the last ones.
        name = facts_name(self.source, url) + (_SUFFIX_LEASE if start < 0 else "")
        look = partial(self._first_near, url, start, stop)
        lease, found = self.parts.leases.acquire(name, look)
        if found is not None:
            return found
        if lease is None and not self.tier.is_fillable():
            return self.far.read_range(url, start, stop)
        try:
            return self._first_far(url, start, stop, lease)
        finally:
            self.writes.release(lease)

    def _first_near(self, url: str, start: int, stop: int) -> Fetched | None:
        known = self._known(url)
        if known is None or not self._serves(url, known.etag):
            return None
        place = place_of(start, stop, known.size)
        if not place:
            return None
        ref = self._ref(url, known.size, known.etag)
        try:
            return replace(self._pinned(ref, place.start, place.stop), facts=known)
        except ObjectChanged:
            return None  # the facts are those of an older version

    def _first_far(self, url: str, start: int, stop: int, lease: Lease | None) -> Fetched:
        """Fetch whole chunks, write them and the facts, and return what was asked for."""
        first = start // CHUNK_BYTES * CHUNK_BYTES if start >= 0 else start - CHUNK_BYTES
        fetched = self.far.read_range(url, first, -(-stop // CHUNK_BYTES) * CHUNK_BYTES)
        facts, first = fetched.facts, fetched.start
        reached = first + len(fetched.data)
        place = place_of(start, stop, facts.size)
        if not place:
            return self.far.read_range(url, start, stop)  # which says what is wrong
        if self._is_kept(url, facts) and self._is_confirmed(url, facts):
            ref = self._ref(url, facts.size, facts.etag)
            for chunk in chunks_of(ref, -(-first // CHUNK_BYTES) * CHUNK_BYTES, reached):
                data = fetched.data[chunk.start - first : chunk.stop - first]
                self.parts.memory.put(chunk.name, data, len(data))
                self.writes.put(chunk.name, data, lease)
            self.writes.put(facts_name(self.source, url), facts_line(url, facts), lease)
        data = fetched.data[place.start - first : min(place.stop, reached) - first]
        return Fetched(data, place.start, facts)

    def _is_kept(self, url: str, facts: ObjectFacts) -> bool:
        """Return whether an answer may be written for other nodes.

        Not if another object had the same ETag: a proxy that has lost its place sends the answers
        of a connection to the wrong requests.
        """
        if not facts.is_lasting or not pin_of(facts.etag):
            return False
        if facts.etag not in self._urls:
            self._urls.put(facts.etag, url)
        return self._urls.get(facts.etag) == url

    def _is_confirmed(self, url: str, facts: ObjectFacts) -> bool:
        """Return whether a HEAD has the same size and ETag as a first answer.

        Nothing was known that this answer could be compared with, and what is written is read by
        all nodes.
        """
        try:
            said = self.far.head(url)
        except StoreError:
            return False
        if (said.size, said.etag) != (facts.size, facts.etag):
            return False
        self.shared.add(url, said, time.time())
        return True

    def _known(self, url: str) -> ObjectFacts | None:
        try:
            content = self.tier.get(facts_name(self.source, url))
            return None if content is None else parsed_facts(url, content)[0]
        except (NearFailed, Damaged):
            return None

    def _manifest(self, url: str) -> Fetched | None:
        try:
            content = self.tier.get(manifest_name(self.source, url))
            if content is None:
                return None
            facts, body = parsed_facts(url, content)
        except (NearFailed, Damaged):
            return None
        return Fetched(body, 0, facts) if len(body) == facts.size else None
