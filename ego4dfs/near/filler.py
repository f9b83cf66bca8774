"""Filler: whole objects are fetched from the far store and written to the near tier."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import StoreError, StoreUnavailable
from ego4dfs.near.chunks import HEADER_BYTES, Chunk, chunks_of, facts_line, facts_name
from ego4dfs.near.limits import NearLimits
from ego4dfs.near.store import NearStore
from ego4dfs.near.tier import NearFailed
from ego4dfs.near.transfer import RUN_CHUNKS
from ego4dfs.store import Fetched, ObjectFacts
from ego4dfs.store.response_checks import pin_of

PATIENT = NearLimits(request_s=60.0, slow_s=60.0, failures=1 << 30)
"""Limits for a program that only fills a near tier: it waits, and reports each failure."""

_UNKNOWN_TIME_S = 0.0  # the plan may have them from an earlier run

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes that were fetched and written, or that were there."""

    fetched: int
    present: int


class Filler:
    """Fills a near tier, and waits for each write. Safe from several threads."""

    def __init__(self, store: NearStore) -> None:
        """Write to the near tier of `store` what its far store has."""
        self._store = store

    def fill(
        self,
        url: str,
        facts: ObjectFacts,
        attempt: Callable[[Callable[[], Fetched]], Fetched],
    ) -> Iterator[Moved]:
        """Write what is missing of one object version, and its facts; yield after each request.

        Requests to the far store are sent by `attempt`, which may send them again. Raises
        StoreError; it says so if the near tier has failed.
        """
        if not facts.size:
            return
        if not pin_of(facts.etag) or not facts.is_lasting:
            raise StoreError(f"{url}: it has no ETag that names its version", url=url)
        ref = ObjectRef.of(self._store.source, url, facts.size, facts.etag)
        missing = self._missing(ref)
        yield Moved(0, facts.size - sum(chunk.stop - chunk.start for chunk in missing))
        for run in _runs(missing):
            start, stop = run[0].start, run[-1].stop
            fetched = attempt(partial(self._fetch, ref, start, stop))
            for chunk in run:
                data = fetched.data[chunk.start - start : chunk.stop - start]
                self._write(chunk.name, data)
            yield Moved(stop - start, 0)
        self._write(facts_name(self._store.source, url), facts_line(url, facts))
        self._store.shared.add(url, facts, time.time() if missing else _UNKNOWN_TIME_S)

    def _fetch(self, ref: ObjectRef, start: int, stop: int) -> Fetched:
        return self._store.far.read_range(ref.url, start, stop, etag=ref.etag, size=ref.size)

    def _missing(self, ref: ObjectRef) -> list[Chunk]:
        """Return the chunks that are not there, or have another length, by one listing."""
        chunks = list(chunks_of(ref, 0, ref.size))
        prefix = chunks[0].name.rpartition("-")[0] + "-"
        tier = self._store.tier
        sizes = {one.key: one.size for one in tier.bucket.list(prefix, tier.limits.request_s)}
        return [c for c in chunks if sizes.get(c.name) != c.stop - c.start + HEADER_BYTES]

    def _write(self, name: str, content: memoryview | bytes) -> None:
        try:
            self._store.tier.put(name, content)
        except NearFailed as error:
            raise StoreUnavailable(f"the near tier {error.__cause__ or error}") from error


def _runs(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Join adjacent chunks, up to RUN_CHUNKS of them."""
    run: list[Chunk] = []
    for chunk in chunks:
        if run and (run[-1].stop != chunk.start or len(run) == RUN_CHUNKS):
            yield run
            run = []
        run.append(chunk)
    if run:
        yield run
