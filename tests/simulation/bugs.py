"""Bugs to plant in ego4dfs, one at a time: a simulation that finds none of them proves nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ego4dfs.cache import BlockCache, blockfile
from ego4dfs.errors import CacheError, ObjectChanged
from ego4dfs.reader import etag_verifier
from ego4dfs.reader.flight import Flight
from ego4dfs.reader.flights import Flights
from ego4dfs.store import obstore_s3, protocol

Patch = tuple[Any, str, Any]


def _without_size(url: str, facts: protocol.ObjectFacts, *, etag: str, size: int | None) -> None:
    del size
    if etag and facts.etag != etag:
        raise ObjectChanged(f"{url}: another version", url=url)


def _without_etag(url: str, facts: protocol.ObjectFacts, *, etag: str, size: int | None) -> None:
    del etag
    if size is not None and facts.size != size:
        raise protocol.WrongSize(url, size, facts)


def _kept(self: etag_verifier.EtagVerifier, ref: Any) -> None:
    del self, ref


def _progress_without_wake(self: Flight, arrived: int) -> None:
    self._arrived = arrived


def _stored_without_wake(self: Flight, *, is_stored: bool) -> None:
    self._is_stored = is_stored


def _fail_without_removal(self: Flights, flight: Flight, error: BaseException) -> None:
    del self
    flight.fail(error)


def _cannot_open(*_: Any, **__: Any) -> None:
    raise CacheError("planted")


@dataclass(frozen=True)
class Bug:
    """What to replace, each name in a module or a class, and kinds of faults that show it."""

    patches: tuple[Patch, ...]
    kinds: tuple[str, ...]


BUGS: Mapping[str, Bug] = {
    "the size of an answer is not compared": Bug(
        ((obstore_s3, "check_version", _without_size),), ("wrong size of HEAD", "forget")
    ),
    "the ETag of an answer is not compared": Bug(
        (
            (obstore_s3, "check_version", _without_etag),
            (obstore_s3, "pin_of", lambda _etag: ""),
        ),
        ("replace", "stale"),
    ),
    "blocks that disagree with their ETag are not dropped": Bug(
        ((etag_verifier.EtagVerifier, "_reject", _kept),), ("flipped",)
    ),
    "checksums of cached blocks are not compared": Bug(
        ((blockfile, "is_valid", lambda _path, _key: True),), ("damage a block", "restart")
    ),
    "readers are not woken when bytes arrive": Bug(
        (
            (Flight, "_progress", _progress_without_wake),
            (Flight, "report_stored", _stored_without_wake),
        ),
        ("clear the cache",),
    ),
    "a request that failed stays in flight": Bug(
        ((Flights, "fail", _fail_without_removal),), ("server error", "clear the cache")
    ),
    "the cache can never be opened": Bug(
        ((BlockCache, "__init__", _cannot_open),), ("clear the cache",)
    ),
}
"""By what is wrong."""


@contextmanager
def planted(bug: str | None) -> Iterator[None]:
    """Plant one bug, or none."""
    saved = []
    for owner, name, value in BUGS[bug].patches if bug else ():
        saved.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in saved:
            setattr(owner, name, value)
