"""Work: what the workers of each node do with a plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ego4dfs.cluster.nodes import Place
from ego4dfs.cluster.part import Part
from ego4dfs.cluster.part_reports import PartReport
from ego4dfs.prefetch import Status


@dataclass(frozen=True, slots=True)
class Begun:
    """The state of one node before its parts: the places in the plan of what is complete there.

    `unwritable` are the datasets whose directories cannot be written.
    """

    complete: frozenset[int] = frozenset()
    bytes_to_fetch: int = 0
    unwritable: Mapping[str, OSError] = field(default_factory=dict)

    @property
    def statuses(self) -> Counter[Status]:
        """The files that are counted without a part."""
        return Counter({Status.SKIPPED: len(self.complete)})


@dataclass(frozen=True, slots=True)
class Work:
    """Two functions that run on workers: `begin` once on each node, then `fetch` for each part.

    `place` names the directory that makes workers one node; `root` is that of copies.
    """

    place: Place
    begin: Callable[[Part], Begun]
    fetch: Callable[[Part], PartReport]
    root: Path = Path()
    pin: bool = False
