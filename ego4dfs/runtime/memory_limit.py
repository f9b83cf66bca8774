"""The memory that this process may use, and buffers that fit into it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_LIMIT_FILES = {
    "": ("memory.max", "memory.high"),
    "memory": ("memory.limit_in_bytes",),
}
"""The files with limits in cgroups of version 2, and in those of version 1, by controller."""
_MEMBER = re.compile("[0-9]+:([^:]*):/*(.*)")
"""A line of cgroups(7): hierarchy, controllers, and the name of the cgroup."""

LEAST_BYTES = 160 << 20
"""With less, the kernel may end a mount with many readers."""
BASE_BYTES = 96 << 20
"""What a mount of all datasets takes without a byte in flight."""
AMPLE_BYTES = 256 << 20
"""With so much more than that, buffers have their full size."""
SCARCE_BYTES = 512 << 20
"""With less, freed memory goes back to the kernel at once: a mount has reached 350 MiB without."""
_LEAST_SHARE = 1 / 20
_UNLIMITED = 1 << 60
"""Version 1 says about 1 << 63 for no limit."""


@cache
def memory_limit() -> int | None:
    """Return how many bytes the cgroups of this process allow together, None if they do not say.

    That is what Docker (`--memory`), Kubernetes, systemd (`MemoryMax=`, `MemoryHigh=`) and Slurm
    (`--mem`) set. The files are those of cgroup-v2.rst and cgroup-v1/memory.rst in the kernel's
    documentation.
    """
    limits = [limit for path in _limit_files() if (limit := _number(path)) is not None]
    return min(limits, default=None)


def is_memory_scarce() -> bool:
    """Return whether to save memory at the cost of CPU time."""
    limit = memory_limit()
    return limit is not None and limit < SCARCE_BYTES


def within_memory_limit(size: int, *, least: int = 0) -> int:
    """Return the size of a buffer in bytes: `size`, or a share of it where memory is limited.

    A share is no smaller than `least`, or `size` if that is less.
    """
    return max(min(least, size), int(size * _share()))


def _share() -> float:
    limit = memory_limit()
    if limit is None:
        return 1.0
    return min(1.0, max(_LEAST_SHARE, (limit - BASE_BYTES) / AMPLE_BYTES))


def _limit_files() -> Iterator[Path]:
    """Yield the files with the limits of this process's cgroups and of those that contain them.

    In a container, the names may be those of the host: then only the outermost is there.
    """
    for member in filter(None, map(_MEMBER.fullmatch, _lines(MEMBERSHIP))):
        name = PurePosixPath(member[2])
        for controller, files in _LIMIT_FILES.items():
            if controller in member[1].split(","):
                for place, file in product((name, *name.parents), files):
                    yield CGROUPS / controller / place / file


def _number(path: Path) -> int | None:
    numbers = (int(line) for line in _lines(path) if line.isdecimal())
    return next((number for number in numbers if number < _UNLIMITED), None)


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text(errors="replace").split("\n")
    except OSError:
        return ()
