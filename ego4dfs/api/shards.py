"""Which items each rank and worker reads, in which order, and where an iteration is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import xxhash

from ego4dfs.errors import ConfigError

_COLUMNS = ("video_uid", "start_s", "end_s", "text")

Window = Sequence[Any]
"""A uid, a start and an end in seconds, and anything else."""


def window_list(windows: Any) -> list[Window]:
    """Return windows as a list: the rows of a frame of `Ego4D.windows`, or any sequences.

    Raises ConfigError for a frame without the columns.
    """
    if not hasattr(windows, "columns"):
        return list(windows)
    missing = [name for name in _COLUMNS[:3] if name not in windows.columns]
    if missing:
        raise ConfigError(f"the frame of windows has no column {', '.join(missing)}")
    names = [name for name in _COLUMNS if name in windows.columns]
    return list(windows[names].itertuples(index=False, name=None))


def window_digest(windows: Sequence[Window]) -> str:
    """Return a digest of which windows these are, and of their order; other fields do not count."""
    found = xxhash.xxh3_64()
    for window in windows:
        line = f"{window[0]} {float(window[1])!r} {float(window[2])!r}\n"  # 1 and 1.0 are equal
        found.update(line.encode(errors="backslashreplace"))
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class Order:
    """The order of `count` items on one of several ranks; without a seed, the given order.

    Each rank has as many: those at the front come twice if they cannot be divided. Raises
    ConfigError for a rank that does not exist.
    """

    count: int
    rank: int = 0
    ranks: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the rank."""
        if not 0 <= self.rank < self.ranks:
            raise ConfigError(f"rank={self.rank}: it must be at least 0, and below {self.ranks}")

    @property
    def length(self) -> int:
        """How many items each rank has."""
        return -(-self.count // self.ranks)

    def indices(self, epoch: int, worker: int = 0, workers: int = 1) -> list[int]:
        """Return what a worker reads in an epoch; all workers of all ranks together read all."""
        found = list(range(self.count))
        if self.seed is not None:
            # Random() hashes a text in the same way in every process.
            random.Random(f"{self.seed} {epoch}").shuffle(found)  # noqa: S311 - an order
        repeated = [found[n % self.count] for n in range(self.rank, self._total, self.ranks)]
        return repeated[worker::workers]

    @property
    def _total(self) -> int:
        return self.length * self.ranks


class Position:
    """Where an iteration over an Order is, in one process. Used from one thread at a time."""

    def __init__(self, order: Order, digest: str) -> None:
        """Begin before the first item; `digest` says which items the order is of."""
        self.order = order
        self._digest = digest
        self._worker = (0, 1)
        self._done = 0
        self._resumed: dict[str, Any] | None = None

    @contextmanager
    def iteration(self, epoch: int, worker: int, workers: int) -> Iterator[list[int]]:
        """Give the indices of a worker: those that are left, if a state was loaded before.

        Raises ConfigError if the state is of another number of workers, or of another worker.
        """
        self._worker, self._done = (worker, workers), 0
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            if resumed["worker"] != [worker, workers]:
                raise ConfigError(
                    f"the state is of worker {resumed['worker']}, not of {[worker, workers]}",
                    hint="resume with the same number of workers",
                )
            self._done = resumed["done"]
        yield self.order.indices(epoch, worker, workers)[self._done :]

    def advance(self) -> None:
        """Record that an item is yielded."""
        self._done += 1

    def state(self, epoch: int) -> dict[str, Any]:
        """Return the state, of numbers and lists."""
        if self._resumed is not None:  # no iteration began since
            return self._resumed
        return {
            **self._identity,
            "epoch": epoch,
            "worker": list(self._worker),
            "done": self._done,
        }

    def resume(self, state: dict[str, Any]) -> int:
        """Let the next iteration go on from a state, and return its epoch.

        Raises ConfigError for a state of another order, or of other windows.
        """
        for key, wanted in self._identity.items():
            if state.get(key) != wanted:
                raise ConfigError(
                    f"the state has {key}={state.get(key)!r}, not {wanted!r}",
                    hint="resume with the same windows, in the same order, seed and ranks",
                )
        self._resumed = dict(state)
        return int(state["epoch"])

    @property
    def _identity(self) -> dict[str, Any]:
        order = self.order
        return {
            "count": order.count,
            "windows": self._digest,
            "rank": order.rank,
            "world_size": order.ranks,
            "seed": order.seed,
        }
