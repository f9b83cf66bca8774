"""NearAdmin: what is in a near tier, checked and removed, for commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from ego4dfs.errors import StoreError
from ego4dfs.near.chunks import FORMAT, LEASES, Damaged, decoded
from ego4dfs.runtime.daemon_threads import map_parallel
from ego4dfs.store.bucket import Bucket, Listed

KINDS = ("chunks", "facts", "tables", "media", "manifests", "leases")
REQUEST_S = 30.0

_THREADS = 16
_BATCH = 1000

Tick = Callable[[int], None]


@dataclass(slots=True)
class NearContent:
    """How many objects of each kind there are, and their bytes."""

    objects: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    oldest_s: float | None = None
    """When the oldest was written, in seconds since the epoch."""


class NearAdmin:
    """Reads and changes all objects of a near tier, of all sources and versions.

    Nodes may use it meanwhile. Calls raise StoreError. `tick` gets the number of objects so far.
    """

    def __init__(self, bucket: Bucket) -> None:
        """Work on the objects of `bucket` that have the present format."""
        self._bucket = bucket

    def content(self, tick: Tick) -> NearContent:
        """Count the objects."""
        found = NearContent()
        for number, one in enumerate(self._all()):
            kind = _kind(one)
            found.objects[kind] += 1
            found.bytes[kind] += one.size
            older = found.oldest_s is None or one.modified_s < found.oldest_s
            found.oldest_s = one.modified_s if older else found.oldest_s
            tick(number + 1)
        return found

    def verify(self, tick: Tick) -> tuple[int, int]:
        """Compare all objects with their checksums; return how many are sound and were removed."""
        sound = damaged = 0
        objects = (one for one in self._all() if not one.key.startswith(LEASES))
        while batch := list(islice(objects, _BATCH)):
            for is_sound in map_parallel(self._is_sound, batch, threads=_THREADS, name="near"):
                sound, damaged = sound + is_sound, damaged + (not is_sound)
                tick(sound + damaged)
        return sound, damaged

    def clear(self, older_than_s: float, tick: Tick) -> int:
        """Remove what was written more than so many seconds ago; return how many objects.

        The clock is that of the store: with this machine's, a wrong one would remove all.
        """
        count = 0
        objects = (one for one in self._all() if self._is_old(one, older_than_s))
        while batch := list(islice(objects, _BATCH)):
            for _ in map_parallel(self._remove, batch, threads=_THREADS, name="near"):
                count += 1
                tick(count)
        return count

    def _all(self) -> Iterator[Listed]:
        return self._bucket.list(f"{FORMAT}/", REQUEST_S)

    def _is_old(self, one: Listed, older_than_s: float) -> bool:
        if not older_than_s:
            return True
        if one.age_s is None:
            raise StoreError(
                f"{self._bucket.url}: a listing without the server's time shows no ages",
                hint="check --near-endpoint; without --older-than all objects are removed",
            )
        return one.age_s > older_than_s

    def _is_sound(self, one: Listed) -> bool:
        """Return whether an object has its checksum; one that has not is removed.

        Raises StoreError if its bytes are others each time: they are damaged on the way.
        """
        data = self._bucket.get(one.key, REQUEST_S)
        if data is None or _is_right(one, data):  # None: it was removed meanwhile
            return True
        again = self._bucket.get(one.key, REQUEST_S)
        if again is None or _is_right(one, again):
            return True
        if again != data:
            raise StoreError(
                f"{self._bucket.url}: {one.key} arrives with other bytes each time",
                hint="nothing was removed for this; check the network and the proxies between",
            )
        self._remove(one)
        return False

    def _remove(self, one: Listed) -> None:
        self._bucket.delete(one.key, REQUEST_S)


def _is_right(one: Listed, data: bytes) -> bool:
    try:
        decoded(one.key, data)
    except Damaged:
        return False
    return True


def _kind(one: Listed) -> str:
    return one.key.removeprefix(f"{FORMAT}/").partition("/")[0]
