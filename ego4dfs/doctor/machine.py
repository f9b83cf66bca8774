"""Checks of this machine: FUSE, mounts, memory, and room for the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from ego4dfs.cache import BlockCache, prepare_directory, source_directory
from ego4dfs.config import MIN_CACHE_BYTES, Config
from ego4dfs.doctor.checks import Check, Level
from ego4dfs.errors import FEW_INODES, Ego4DError, MountError, lacks_inodes
from ego4dfs.facts import FactsIndex
from ego4dfs.files.mountinfo import mounts
from ego4dfs.metrics import Metrics
from ego4dfs.mount import (
    MountDead,
    MountUnresponsive,
    check_device,
    check_fusermount,
    find_library,
    fusermount,
    missing_privilege,
    read_statuses,
)
from ego4dfs.runtime.memory_limit import LEAST_BYTES, is_memory_scarce, memory_limit
from ego4dfs.session import open_configured_store
from ego4dfs.text import human_size

_CAP_SYS_ADMIN = 21


def check_machine(config: Config) -> Iterator[Check]:
    """Check FUSE and the cache directory; nothing is mounted, and the network is not used."""
    yield _checked("FUSE device", check_device, "/dev/fuse can be opened")
    try:
        binding = find_library(config.libfuse)
    except MountError as error:
        yield Check.failed("libfuse", error)
    else:
        yield Check("libfuse", Level.OK, f"version {binding.version} ({binding.library})")
        yield _permission(binding.version)
    yield _mounts()
    yield _memory()
    yield from _cache(config)


def _checked(name: str, check: Callable[[], None], found: str) -> Check:
    try:
        check()
    except Ego4DError as error:
        return Check.failed(name, error)
    return Check(name, Level.OK, found)


def _permission(version: int) -> Check:
    name = "permission to mount"
    if os.geteuid() == 0:
        if _capabilities() >> _CAP_SYS_ADMIN & 1:
            return Check(name, Level.OK, "root may mount")
        remedy = "start the container with --cap-add SYS_ADMIN --device /dev/fuse"
        reason = "root of this container may not mount: CAP_SYS_ADMIN is missing"
        return Check.failed(name, MountError(reason, hint=remedy))
    try:
        check_fusermount(version)
    except MountError as error:
        return Check.failed(name, error)
    obstacle = missing_privilege(version)
    if obstacle:
        found, _, remedy = obstacle.partition("; ")
        return Check(name, Level.WARN, found, f"if mounting fails: {remedy}")
    return Check(name, Level.OK, f"{fusermount(version)} mounts for this user")


def _mounts() -> Check:
    name = "mounts"
    found = read_statuses(dict.fromkeys(mount.mountpoint for mount in mounts() if mount.is_ours))
    errors = [
        error for error in found.values() if isinstance(error, (MountDead, MountUnresponsive))
    ]
    if errors:
        hints = "; ".join(error.hint for error in errors)
        return Check(name, Level.WARN, "; ".join(map(str, errors)), hints)
    return Check(name, Level.OK, f"{len(found)} answer" if found else "none")


def _memory() -> Check:
    name = "memory"
    limit = memory_limit()
    if limit is None:
        return Check(name, Level.OK, "no cgroup limits it")
    if limit < LEAST_BYTES:
        needed = f"{human_size(limit)}: a mount needs {human_size(LEAST_BYTES)}"
        remedy = "raise the limit of the container or job (docker run --memory, sbatch --mem)"
        return Check(name, Level.WARN, needed, remedy)
    more = ": little, so less is kept in memory" if is_memory_scarce() else ""
    return Check(name, Level.OK, f"{human_size(limit)}{more}")


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text().split("\n"):
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _cache(config: Config) -> Iterator[Check]:
    try:
        inner = prepare_directory(config.cache_dir)
        cache = BlockCache(inner, Metrics())  # without a limit, so that the stored one stays
        limit, used = config.cache_max_bytes or cache.admin.max_bytes, cache.admin.used_bytes
        cache.close()
        with closing(open_configured_store(config, Metrics())) as store:
            FactsIndex(source_directory(inner, store.source), store).close()
    except Ego4DError as error:
        yield Check.failed("cache directory", error)
        return
    yield Check(
        "cache directory",
        Level.OK,
        f"{human_size(used)} of {human_size(limit)} are used, in {inner}",
    )
    yield _free_space(inner, max(0, limit - used))


def _free_space(inner: Path, wanted: int) -> Check:
    name = "free space"
    free = shutil.disk_usage(inner).free
    if lacks_inodes(inner):
        remedy = "remove files, or name another disk with --cache-dir"
        return Check(name, Level.WARN, FEW_INODES, remedy)
    if free < MIN_CACHE_BYTES:
        remedy = "make room, or name another disk with --cache-dir"
        found = f"only {human_size(free)}: no new blocks are cached"
        return Check(name, Level.WARN, found, remedy)
    if free < wanted:
        remedy = "make room, or set a smaller --cache-size"
        found = f"{human_size(free)}, but the cache may need {human_size(wanted)} more"
        return Check(name, Level.WARN, found, remedy)
    return Check(name, Level.OK, human_size(free))
