"""Parts: what one Dask task fetches of a plan, and the division of plans."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from ego4dfs.config import Config
from ego4dfs.prefetch import TO_FETCH, Item, Plan
from ego4dfs.prefetch.shard import assign

PART_BYTES = 16 << 30
"""About how much one part has, if there are several for each worker."""
_PARTS_PER_WORKER = 4
"""So a worker that is slow or lost holds up the others for a quarter of its share at most."""
_MAX_PARTS = 1024


def installed() -> str:
    """Return the version of ego4dfs on this machine."""
    return metadata.version("ego4dfs")


@dataclass(frozen=True, slots=True)
class Part:
    """One task. It has no credentials: each worker uses those of its own machine.

    `root` is the directory of the copies. A worker that does not find `mark` there sees another
    directory than the client; without a mark the directory is that of the worker's node. `digest`
    is that of the whole plan, `release` the client's version. The files of `unwritable` datasets
    fail. Blocks in a cache are pinned with `pin`.
    """

    config: Config
    root: Path
    plan: Plan
    index: int
    count: int
    digest: str
    jobs: int
    mark: str
    topic: str
    stop: str
    node: str = ""
    unwritable: Mapping[str, OSError] = field(default_factory=dict)
    pin: bool = False
    release: str = field(default_factory=installed)


def split(plan: Plan, workers: int) -> list[Plan]:
    """Return the files to fetch in parts of about equally many bytes, the same for the same plan.

    All copies of one object are in one part: its worker fetches it once. If a size is not known,
    the parts have equally many objects.
    """
    items = [item for item in plan.items if item.state in TO_FETCH]
    has_sizes = all(item.facts is not None for item in items)
    sizes = {item.url: item.size if has_sizes else 1 for item in items}
    count = parts_for(sizes, workers)
    part_of = assign(sizes, count) if count else {}
    kept: list[dict[str, list[Item]]] = [defaultdict(list) for _ in range(count)]
    for dataset in plan.datasets:
        for item in dataset.items:
            if item.state in TO_FETCH:
                kept[part_of[item.url]][dataset.dataset].append(item)
    return [
        Plan([replace(d, items=items[d.dataset]) for d in plan.datasets if d.dataset in items])
        for items in kept
    ]


def parts_for(sizes: Mapping[str, int], workers: int) -> int:
    """Return in how many parts workers take things of these sizes."""
    wanted = max(_PARTS_PER_WORKER * workers, sum(sizes.values()) // PART_BYTES)
    return min(wanted, len(sizes), _MAX_PARTS)


def digest(plans: list[Plan]) -> str:
    """Return what is equal for two runs if they write the same files in the same parts."""
    found = hashlib.sha256()
    for plan in plans:
        found.update(b"\0\0")
        for item in plan.items:
            found.update(f"\0{item.path}\0{item.url}".encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:16]
