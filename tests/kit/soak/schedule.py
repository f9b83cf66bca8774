"""The schedule of a soak run: its faults, its actions and the operations of each reader. Pure.

All of it follows from the seed: the same operations, faults and actions in the same order. Only
the moments at which they meet depend on the machine.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kit.fault_kinds import KINDS

MOUNT_OPERATIONS = {
    "sequential": 4,
    "pread": 20,
    "preadv": 10,
    "mmap": 10,
    "seek": 10,
    "tail index": 6,
    "small files": 3,
    "walk": 1,
    "video": 1,
}
FSSPEC_OPERATIONS = {"cat_file": 10, "cat_ranges": 5, "open": 10, "head and tail": 5, "find": 1}
FAULTS = (*KINDS, "flipped bytes", "the server is gone", "expired key", "refused keys")
ACTIONS = (
    "kill -9 of a mount",
    "remount",
    "lazy unmount",
    "stopped mount",
    "renewed key",
    "change of network",
    "lost connections",
    "locked index",
    "locked facts",
    "cleared cache",
    "verified cache",
    "kill -9 of a reader",
    "prefetch",
)
FAULT_S = (0.5, 2.5)
ACTION_EVERY_S = (2.0, 6.0)


@dataclass(frozen=True)
class Event:
    """Something that begins at a moment of the run."""

    at_s: float
    name: str


def faults(seed: int, seconds: float) -> list[Event]:
    """Return the faults: all kinds in a random order, then all kinds in another order.

    The last one ends like the others: reads rightly wait for minutes under some of them.
    """
    found = _timeline(random.Random(f"faults {seed}"), FAULTS, FAULT_S, seconds)
    return [*found, Event(min(found[-1].at_s + FAULT_S[1], 0.95 * seconds), "none")]


def actions(seed: int, seconds: float) -> list[Event]:
    """Return the actions on processes, keys, network and cache, likewise."""
    return _timeline(random.Random(f"actions {seed}"), ACTIONS, ACTION_EVERY_S, seconds)


def operation(face: str, seed: int, reader: str, number: int) -> tuple[str, random.Random]:
    """Return the kind of one operation of a reader, and the rng for its arguments."""
    rng = random.Random(f"{seed} {reader} {number}")
    weights = MOUNT_OPERATIONS if face == "mount" else FSSPEC_OPERATIONS
    return rng.choices(list(weights), list(weights.values()))[0], rng


def _timeline(
    rng: random.Random, names: Sequence[str], lasts_s: tuple[float, float], seconds: float
) -> list[Event]:
    """Return events with all names at least once, nearer to each other if the run is short."""
    every_s = min(1.0, 0.8 * seconds / (len(names) * sum(lasts_s) / 2))
    events, at_s = [], 0.0
    for name in _passes(rng, names):
        if at_s >= 0.9 * seconds:
            return events
        events.append(Event(at_s, name))
        at_s += every_s * rng.uniform(*lasts_s)
    return events


def _passes(rng: random.Random, names: Sequence[str]) -> Iterator[str]:
    while True:
        yield from rng.sample(names, len(names))
