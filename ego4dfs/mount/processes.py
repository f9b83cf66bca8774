"""The process that serves a mount, and the processes that use it, found in /proc.

The process that serves a mount has the device of the mount in its name (proc(5), comm). So it is
found without a request to the mount, by its pid in this namespace, and is not confused with a later
process that has the same pid. Nothing here waits for the mount.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.files.mountinfo import MountEntry, mounts

_PROC = Path("/proc")
_BDI = Path("/sys/class/bdi")
_NAME = "ego4dfs-{}"


@dataclass(frozen=True, slots=True)
class Process:
    """A process, by its pid in this namespace."""

    pid: int

    @property
    def state(self) -> str:
        """The state in proc(5): R, S, D, T and so on; empty once it has exited."""
        try:
            state = (_PROC / str(self.pid) / "stat").read_bytes().rpartition(b")")[2].split()[0]
        except (OSError, IndexError):
            return ""
        return "" if state in b"ZX" else state.decode()

    @property
    def is_running(self) -> bool:
        """Whether it has not exited yet."""
        return self.state != ""

    @property
    def is_stopped(self) -> bool:
        """Whether a signal or a debugger has stopped it."""
        return self.state in ("T", "t")


def pid_namespace() -> int:
    """Return the inode number of this pid namespace, 0 if the kernel does not show it."""
    try:
        return (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return 0


def set_process_name(device: str) -> None:
    """Name this process after the device of the mount that it serves."""
    with suppress(OSError):
        (_PROC / "self/comm").write_text(_NAME.format(device))


def serving_process(mounted: MountEntry) -> Process | None:
    """Return the process that serves an ego4dfs mount; None if it is not visible."""
    if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 - text, not Path
        return None  # /proc belongs to another pid namespace: its pids are not valid in this one
    name = f"{_NAME.format(mounted.device)}\n".encode()
    found = []
    for directory in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            if (directory / "comm").read_bytes() == name and _belongs_to_owner(directory, mounted):
                found.append(Process(int(directory.name)))
    # Device numbers are reused: the process that started last serves this mount.
    return max((process for process in found if process.is_running), key=_start_time, default=None)


def _belongs_to_owner(process: Path, mounted: MountEntry) -> bool:
    return mounted.owner in (None, process.stat().st_uid)


def _start_time(process: Process) -> int:
    try:
        return int((_PROC / str(process.pid) / "stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def programs_using(mountpoint: Path, *, exclude: int = 0) -> dict[int, str]:
    """Return the programs with open files or their working directory below, by pid.

    Each is shown as `name (pid N)`. The process with pid `exclude` is left out.
    """
    inside = (os.fspath(mountpoint), f"{mountpoint}/")
    found = {}
    for process in _PROC.glob("[0-9]*"):
        if process.name == str(exclude):
            continue
        with suppress(OSError):
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            targets = [os.readlink(link) for link in links]  # noqa: PTH115 - text, not Path
            if any(target == inside[0] or target.startswith(inside[1]) for target in targets):
                found[int(process.name)] = _shown(process)
    return found


def is_held(device: str) -> bool:
    """Return whether the kernel still has the filesystem of this device, mounted or not."""
    return bool(device) and (_BDI / device).exists()


def describe_holders(mounted: MountEntry) -> list[str]:
    """Return the users of a filesystem after its mountpoint was unmounted, as text."""
    found = [
        f"a mount at {other.mountpoint}"
        for other in mounts()
        if other.device == mounted.device or _is_overlay_of(other, mounted.mountpoint)
    ]
    return found + [
        f"the mount namespace of {_shown(process)}"
        for process in _other_namespaces()
        if _sees(process, mounted.device)
    ]


def _is_overlay_of(other: MountEntry, lower: Path) -> bool:
    """Return whether `other` is an overlay with a layer at or below the directory."""
    if other.filesystem != "overlay":
        return False
    layers = [
        Path(layer)
        for option in other.options.split(",")
        if option.startswith(("lowerdir=", "lowerdir+=", "datadir+="))
        for layer in option.partition("=")[2].split(":")
        if layer
    ]
    return any(layer.is_relative_to(lower) for layer in layers)


def _other_namespaces() -> Iterator[Path]:
    """Yield one process of each other visible mount namespace."""
    known = {os.readlink("/proc/self/ns/mnt")}  # noqa: PTH115 - text, not Path
    for process in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            namespace = os.readlink(process / "ns/mnt")  # noqa: PTH115 - text, not Path
            if namespace not in known:
                known.add(namespace)
                yield process


def _sees(process: Path, device: str) -> bool:
    try:
        return any(mount.device == device for mount in mounts(process.name))
    except OSError:
        return False


def _shown(process: Path) -> str:
    name = os.fsdecode((process / "comm").read_bytes()).strip()
    return f"{name} (pid {process.name})"
