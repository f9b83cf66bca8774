"""Epochs of nodes with caches of their own, before one near tier or none: what S3 has to send."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

Division = Literal["each", "anew", "fixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What is read as a whole, such as a window: its cost if it is cached nowhere."""

    size: float
    requests: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Items in random order, once in each epoch.

    `parents` items of the kind `parent` are needed too, each before the first of its items: the
    indexes of videos. With `division` "each" all nodes read everything, each in its own order.
    Otherwise they divide each epoch among them: "anew", or as "fixed" by the parents of the items.
    """

    name: str
    items: int
    item: Item
    parents: int
    parent: Item
    epochs: int
    division: Division


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """Sizes in bytes of the cache of each node, and of the near tier, 0 for none.

    Both keep what came first when they are full, as `--eviction none` does.
    """

    node_bytes: float
    near_bytes: float


@dataclass(slots=True)
class Traffic:
    """What S3, and the near tier, sent to all nodes."""

    far_requests: float = 0.0
    far_bytes: float = 0.0
    near_bytes: float = 0.0
    near_requests: float = 0.0

    def scaled(self, factor: float) -> Traffic:
        """Return as many times of it."""
        return Traffic(
            self.far_requests * factor,
            self.far_bytes * factor,
            self.near_bytes * factor,
            self.near_requests * factor,
        )

    def minus(self, other: Traffic) -> Traffic:
        """Return what is more than in `other`."""
        return Traffic(
            self.far_requests - other.far_requests,
            self.far_bytes - other.far_bytes,
            self.near_bytes - other.near_bytes,
            self.near_requests - other.near_requests,
        )


@dataclass(slots=True)
class _Cache:
    """Keys of what a tier has; it takes nothing more when it is full."""

    max_bytes: float
    used_bytes: float = 0.0
    keys: set[tuple[str, int]] = field(default_factory=set)

    def put(self, key: tuple[str, int], size: float) -> None:
        if self.used_bytes + size <= self.max_bytes:
            self.keys.add(key)
            self.used_bytes += size


def simulate(work: Workload, nodes: int, tiers: Tiers, *, seed: int = 1) -> list[Traffic]:
    """Return the traffic of each epoch, of all nodes together.

    Nodes take turns. What one has begun to fetch into the near tier, another waits for: that is
    what its leases promise, so no byte that fits there is fetched twice.
    """
    order = random.Random(seed)
    near = _Cache(tiers.near_bytes)
    caches = [_Cache(tiers.node_bytes) for _ in range(nodes)]
    numbers = list(range(work.items))
    epochs = []
    for _ in range(work.epochs):
        traffic = Traffic()
        for node, number in _turns(work, numbers, nodes, order):
            for key, item in _needed(work, number):
                _read(caches[node], near, key, item, traffic)
        epochs.append(traffic)
    return epochs


def _turns(
    work: Workload, numbers: list[int], nodes: int, order: random.Random
) -> Iterator[tuple[int, int]]:
    """Yield each read of an epoch: the node, and the number of the item."""
    if work.division == "each":
        for node in range(nodes):
            order.shuffle(numbers)
            yield from ((node, number) for number in numbers)
        return
    order.shuffle(numbers)
    for place, number in zip(count(), numbers):
        owner = number % work.parents if work.division == "fixed" else place
        yield owner % nodes, number


def _needed(work: Workload, number: int) -> Sequence[tuple[tuple[str, int], Item]]:
    wanted = (("item", number), work.item)
    if not work.parents:
        return (wanted,)
    return ((("parent", number % work.parents), work.parent), wanted)


def _read(cache: _Cache, near: _Cache, key: tuple[str, int], item: Item, traffic: Traffic) -> None:
    if key in cache.keys:
        return
    if key in near.keys:
        traffic.near_bytes += item.size
        traffic.near_requests += item.requests
    else:
        traffic.far_bytes += item.size
        traffic.far_requests += item.requests
        near.put(key, item.size)
    cache.put(key, item.size)
