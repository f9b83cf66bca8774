"""The kernel's mount table (/proc/PID/mountinfo), and resolving paths without entering a mount.

Nothing here waits for a filesystem without a timeout: one whose process is stopped never answers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.errors import MountError
from ego4dfs.files.child_call import call_in_child

FILESYSTEM_TYPE = "fuse.ego4dfs"
RESOLVE_S = 2.0

_PROC = Path("/proc")
_MAX_LINKS = 40  # as the kernel's own MAXSYMLINKS


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo; `device` is `major:minor`, `options` are those of the filesystem."""

    mountpoint: Path
    filesystem: str
    device: str
    options: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is a mount of ego4dfs."""
        return self.filesystem == FILESYSTEM_TYPE

    @property
    def owner(self) -> int | None:
        """The user id of the user who mounted it, None if the kernel does not show it."""
        found = re.search(r"(?:^|,)user_id=(\d{1,10})(?:,|$)", self.options, re.ASCII)
        return int(found[1]) if found else None


def mounts(process: int | str = "self") -> Iterator[MountEntry]:
    """Yield all mounts of a process, in mounting order. Raises OSError without permission."""
    yield from entries((_PROC / str(process) / "mountinfo").read_bytes())


def entries(table: bytes) -> Iterator[MountEntry]:
    """Yield the mounts in the content of a mountinfo file."""
    # Split at line feeds only: the kernel escapes these in paths, but no other line ends.
    for line in table.split(b"\n"):
        before, dash, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if dash and len(fields) > 4:
            yield MountEntry(
                Path(_unescaped(fields[4])),
                os.fsdecode(rest[0]),
                os.fsdecode(fields[2]),
                _unescaped(rest[-1]),
            )


def mounted_at(mountpoint: Path) -> MountEntry | None:
    """Return the topmost mount at exactly this path, or None."""
    found = [mount for mount in mounts() if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def mount_containing(path: Path) -> MountEntry | None:
    """Return the mount that a path lies in, or None."""
    found = [mount for mount in mounts() if path.is_relative_to(mount.mountpoint)]
    return max(reversed(found), key=lambda mount: len(mount.mountpoint.parts), default=None)


def device_of(mountpoint: Path) -> str:
    """Return `major:minor` of the mount at this path, or an empty string."""
    mounted = mounted_at(mountpoint)
    return mounted.device if mounted else ""


def resolve_path(path: Path) -> Path:
    """Return an absolute path without symbolic links, as `os.path.realpath` does.

    Raises MountError if a filesystem on the way does not answer, or the working directory no
    longer exists.
    """
    points = {os.fspath(mount.mountpoint) for mount in mounts()}
    try:
        start = os.fspath(path.expanduser().absolute())
    except FileNotFoundError:
        raise MountError(f"{path}: the working directory no longer exists") from None
    try:
        return Path(call_in_child(lambda: _walk(start, points), RESOLVE_S))
    except TimeoutError:
        raise MountError(
            f"{path}: a filesystem on the way to it does not answer",
            hint="`ego4dfs status` shows the ego4dfs mounts that do not answer",
        ) from None


def _walk(path: str, points: Collection[str]) -> str:
    """Follow links, but do not read mountpoints: they are not links, and reading them may hang."""
    pending, current, links = path.split("/")[::-1], "/", 0
    while pending:
        name = pending.pop()
        if name in {"", "."}:
            continue
        candidate = os.path.dirname(current) if name == ".." else os.path.join(current, name)  # noqa: PTH118, PTH120 - text
        target = None if name == ".." or candidate in points else _target(candidate)
        if target is None or links == _MAX_LINKS:
            current = candidate
            continue
        links += 1
        current = "/" if target.startswith("/") else current
        pending += target.split("/")[::-1]
    return current


def _target(path: str) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - text, not Path
    except OSError:
        return None


def _unescaped(field: bytes) -> str:
    raw = re.sub(rb"\\([0-3][0-7]{2})", lambda found: bytes((int(found[1], 8),)), field)
    return os.fsdecode(raw)
