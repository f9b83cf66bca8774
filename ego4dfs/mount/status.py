"""The hidden file in a mount that carries its live counters, and reading it from outside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ego4dfs.errors import MountError
from ego4dfs.tree import inode
from ego4dfs.vfs import VFS, Handle, Stat

STATUS_DIRECTORY = "/.ego4dfs"
STATUS_PATH = f"{STATUS_DIRECTORY}/status.json"


class StatusFile:
    """`.ego4dfs/status.json`, which no listing shows. Each open takes a new snapshot."""

    def __init__(self, vfs: VFS) -> None:
        """Show the counters of `vfs`."""
        self._vfs = vfs

    def stat(self, path: str) -> Stat | None:
        """Return what a path is if it is the file or its directory, else None."""
        if path == STATUS_DIRECTORY:
            return Stat(inode(path), is_dir=True, size=0, mtime_ns=0)
        if path == STATUS_PATH:
            return Stat(inode(path), is_dir=False, size=len(self._content()), mtime_ns=0)
        return None

    def open(self) -> Handle:
        """Open a snapshot."""
        return Handle(STATUS_PATH, content=self._content())

    def _content(self) -> bytes:
        status = {"pid": os.getpid(), **self._vfs.status()}
        return (json.dumps(status, indent=1) + "\n").encode()


def read_status(mountpoint: Path) -> dict[str, Any]:
    """Return the counters of the mount at `mountpoint`.

    Raises MountError when no ego4dfs answers there.
    """
    try:
        status: dict[str, Any] = json.loads(Path(f"{mountpoint}{STATUS_PATH}").read_bytes())
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        others = isinstance(error, PermissionError)
        hint = "it was mounted by another user, without --allow-other" if others else ""
        raise MountError(f"{mountpoint}: no ego4dfs answers there ({reason})", hint=hint) from error
    return status
