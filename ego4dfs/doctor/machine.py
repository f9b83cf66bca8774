"""This machine: can it mount, and is there room for the cache?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ego4dfs.cache import BlockCache, prepare_directory
from ego4dfs.config import MIN_CACHE_BYTES, Config
from ego4dfs.doctor.checks import Check, State
from ego4dfs.errors import Ego4DError, MountError
from ego4dfs.metrics import Metrics
from ego4dfs.mount import (
    MountDead,
    MountUnresponsive,
    check_device,
    check_fusermount,
    find_library,
    fusermount,
    mounts,
    privilege_lacking,
    read_statuses,
)

_CAP_SYS_ADMIN = 21
_GIB = 2**30


def check_machine(config: Config) -> Iterator[Check]:
    """Look at FUSE and at the cache directory; nothing is mounted and no network touched."""
    yield _tried("FUSE device", check_device, "/dev/fuse can be opened")
    try:
        binding = find_library(config.libfuse)
    except MountError as error:
        yield Check.failed("libfuse", error)
    else:
        yield Check("libfuse", State.OK, f"version {binding.version} ({binding.library})")
        yield _permission(binding.version)
    yield _mounts()
    yield from _cache(config)


def _tried(name: str, check: Callable[[], None], fine: str) -> Check:
    try:
        check()
    except Ego4DError as error:
        return Check.failed(name, error)
    return Check(name, State.OK, fine)


def _permission(version: int) -> Check:
    name = "permission to mount"
    if os.geteuid() == 0:
        if _capabilities() >> _CAP_SYS_ADMIN & 1:
            return Check(name, State.OK, "root may mount")
        remedy = "start the container with --cap-add SYS_ADMIN --device /dev/fuse"
        lack = "root of this container may not mount: CAP_SYS_ADMIN is missing"
        return Check.failed(name, MountError(lack, hint=remedy))
    try:
        check_fusermount(version)
    except MountError as error:
        return Check.failed(name, error)
    lacking = privilege_lacking(version)
    if lacking:
        found, _, remedy = lacking.partition("; ")
        return Check(name, State.WARN, found, f"if mounting fails: {remedy}")
    return Check(name, State.OK, f"{fusermount(version)} mounts for you")


def _mounts() -> Check:
    name = "mounts"
    answers = read_statuses(dict.fromkeys(one.mountpoint for one in mounts() if one.is_ours))
    lost = [one for one in answers.values() if isinstance(one, (MountDead, MountUnresponsive))]
    if lost:
        hints = "; ".join(answer.hint for answer in lost)
        return Check(name, State.WARN, "; ".join(map(str, lost)), hints)
    return Check(name, State.OK, f"{len(answers)} answer" if answers else "none")


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text().split("\n"):
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _cache(config: Config) -> Iterator[Check]:
    try:
        inner = prepare_directory(config.cache_dir)
        cache = BlockCache(inner, Metrics())  # and leave its limit as it is
        limit, used = config.cache_max_bytes or cache.max_bytes, cache.used_bytes
        cache.close()
    except Ego4DError as error:
        yield Check.failed("cache directory", error)
        return
    yield Check("cache directory", State.OK, f"{_gib(used)} of {_gib(limit)} are used, in {inner}")
    free = shutil.disk_usage(inner).free
    wanted = max(0, limit - used)
    if free < MIN_CACHE_BYTES:
        remedy = "make room, or name another disk with --cache-dir"
        yield Check("free space", State.WARN, f"only {_gib(free)}: nothing new is kept", remedy)
    elif free < wanted:
        remedy = "make room, or set a smaller --cache-size"
        found = f"{_gib(free)}, and the cache may want {_gib(wanted)} more"
        yield Check("free space", State.WARN, found, remedy)
    else:
        yield Check("free space", State.OK, _gib(free))


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
