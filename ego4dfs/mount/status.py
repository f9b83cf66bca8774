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

STATUS_BYTES = 4096
"""The size of the file whatever it says: programs read as much as `stat` promised, an hour ago."""


class StatusFile:
    """`.ego4dfs/status.json`, which no listing shows. Each open takes a new snapshot.

    It is one page of the kernel's, so a page never holds parts of two snapshots, and the file can
    be mapped. Blanks before its last line end fill it up.
    """

    def __init__(self, vfs: VFS) -> None:
        """Show the counters of `vfs`."""
        self._vfs = vfs

    def stat(self, path: str) -> Stat | None:
        """Return what a path is if it is the file or its directory, else None."""
        if path == STATUS_DIRECTORY:
            return Stat(inode(path), is_dir=True, size=0, mtime_ns=0)
        if path == STATUS_PATH:
            return Stat(inode(path), is_dir=False, size=STATUS_BYTES, mtime_ns=0)
        return None

    def open(self) -> Handle:
        """Open the file."""
        return Handle(STATUS_PATH, content=self._content())

    def read_into(self, handle: Handle, offset: int, view: memoryview) -> int:
        """Fill `view` with the bytes from `offset` on; a read of the begin takes a new snapshot."""
        if offset == 0:
            handle.content = memoryview(self._content())
        return self._vfs.read_into(handle, offset, view)

    def _content(self) -> bytes:
        status = {"pid": os.getpid(), **self._vfs.status()}
        return padded(status, STATUS_BYTES)


def padded(status: dict[str, Any], size: int) -> bytes:
    """Return counters as JSON of exactly `size` bytes; a long `last_error` is cut for it."""
    text = json.dumps(status, indent=1)
    kept = str(status.get("last_error", ""))
    while len(text) >= size and kept:
        kept = kept[: len(kept) * 7 // 8]
        text = json.dumps({**status, "last_error": kept + "..."}, indent=1)
    return f"{text:{size - 1}}\n".encode()


def read_status(mountpoint: Path) -> dict[str, Any]:
    """Return the counters of the mount at `mountpoint`.

    Raises MountError when no ego4dfs answers there.
    """
    try:
        status: dict[str, Any] = json.loads(_read(f"{mountpoint}{STATUS_PATH}"))
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        others = isinstance(error, PermissionError)
        hint = "it was mounted by another user, without --allow-other" if others else ""
        raise MountError(f"{mountpoint}: no ego4dfs answers there ({reason})", hint=hint) from error
    return status


def _read(path: str) -> bytes:
    """Read the file past the kernel's pages and its queue of buffered reads."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        return os.read(fd, STATUS_BYTES)
    finally:
        os.close(fd)
