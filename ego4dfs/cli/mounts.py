"""The ego4dfs mounts of this machine, for commands that show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ego4dfs.errors import MountError
from ego4dfs.files.mountinfo import mounted_at, mounts
from ego4dfs.mount import MountDead, MountUnresponsive


def all_mountpoints() -> list[Path]:
    """Return the mountpoints of all ego4dfs mounts, in mounting order, each once."""
    return list(dict.fromkeys(mount.mountpoint for mount in mounts() if mount.is_ours))


def check_mounted(mountpoint: Path) -> None:
    """Raise MountError unless an ego4dfs is mounted at exactly this path; enters no mount."""
    mounted = mounted_at(mountpoint)
    if mounted is None or not mounted.is_ours:
        raise MountError(
            f"{mountpoint}: no ego4dfs is mounted there", hint="`ego4dfs status` lists all mounts"
        )


def document(mountpoint: Path, result: dict[str, Any] | MountError) -> dict[str, Any]:
    """Return the counters, or the state of a mount that did not return them."""
    if not isinstance(result, MountError):
        return result
    text = str(result).removeprefix(f"{mountpoint}: ")
    return {
        "dead": isinstance(result, MountDead),
        "silent": isinstance(result, MountUnresponsive),
        "last_error": f"{text}; {result.hint}" if result.hint else text,
    }
