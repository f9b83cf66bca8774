"""Shards: the files of a selection in N parts, the same on every machine, balanced by bytes."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ego4dfs.errors import StoreUnavailable
from ego4dfs.prefetch.plan import UNAVAILABLE, DatasetPlan, Share


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count`, counted from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        """Return it as the option has it: `2/8`."""
        return f"{self.index}/{self.count}"

    def keys(self, sizes: Mapping[str, int]) -> set[str]:
        """Return the keys of this part."""
        return {key for key, part in assign(sizes, self.count).items() if part == self.index}

    def share_of(
        self, files: Sequence[tuple[str, int]], weights: Mapping[str, int]
    ) -> tuple[set[str], Share]:
        """Return the keys of this part, and what it is of the whole.

        `files` are the key and size of each file; several may have one key. The parts have about
        equal sums of `weights`, which has all keys.
        """
        own = self.keys(weights)
        mine = [size for key, size in files if key in own]
        whole = sum(size for _, size in files)
        counts = (len(mine), sum(mine), len(files), whole)
        return own, Share(self.index, self.count, *counts, _digest(self.count, weights))

    def of(
        self, datasets: Sequence[DatasetPlan], *, by_size: bool
    ) -> tuple[list[DatasetPlan], Share]:
        """Return this part of a plan, and what it is of the whole.

        All copies of one object are in one part. ego4d.json is not divided. Without `by_size`
        the parts have equally many files: sizes that only some machines know would give each
        machine other parts. Raises StoreUnavailable with `by_size` if a size is not known.
        """
        items = [item for dataset in datasets if dataset.dataset for item in dataset.items]
        unknown = [i for i in items if by_size and i.facts is None and i.state not in UNAVAILABLE]
        if unknown:
            raise StoreUnavailable(
                f"{unknown[0].url}: its size is not known, and shards are balanced by size",
                url=unknown[0].url,
                hint="run it again; prefetch --skip-s3-checks on all machines balances by number",
            )
        weights = {item.url: item.object_size if by_size else 1 for item in items}
        own, share = self.share_of([(item.url, item.object_size) for item in items], weights)
        kept = [
            replace(d, items=[i for i in d.items if i.url in own]) if d.dataset else d
            for d in datasets
        ]
        return kept, share


def assign(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Return the part, from 0 to `count` - 1, of each key.

    It depends on keys and sizes alone. The largest is assigned first, and each to the part with the
    fewest bytes so far, of several to the one with the fewest keys. So no part exceeds the mean by
    more than the largest size. Equal sizes are in the order of a hash, so that neighbours in a
    manifest, which are often read together, are spread.
    """
    parts = [(0, 0, part) for part in range(count)]
    assigned = {}
    for key in sorted(sizes, key=lambda key: (-sizes[key], _hash(key))):
        total, keys, part = parts[0]
        assigned[key] = part
        heapq.heapreplace(parts, (total + sizes[key], keys + 1, part))
    return assigned


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _digest(count: int, sizes: Mapping[str, int]) -> str:
    """Return what is equal on two machines if their parts are."""
    found = hashlib.sha256(b"%d" % count)
    for key in sorted(sizes):
        found.update(f"\0{key}\0{sizes[key]}".encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:16]
