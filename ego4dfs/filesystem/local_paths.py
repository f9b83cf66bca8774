"""Paths on this machine of files of the tree, for libraries that cannot read file objects."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ego4dfs.files.mountinfo import mounts
from ego4dfs.runtime.daemon_threads import CallTimeout, call_with_timeout
from ego4dfs.vfs import VFS

_ANSWER_S = 2.0


def local_path(vfs: VFS, path: str, copies: Path | None) -> str:
    """Return a path at which a program of this machine reads this version of a file.

    It is that of a valid copy in the directory `copies`, else of a file in a mount. Raises OSError
    (ENOTSUP), which names the remedy, if there is neither, and what `VFS.open` raises.
    """
    handle = vfs.open(path)
    if handle.copy is not None and copies is not None:
        return str(copies / path)
    origin = vfs.origin(path)
    if origin is not None:
        for mount in mounts():
            place = mount.mountpoint / path
            if mount.is_ours and _object_at(place) == (origin.url, handle.etag):
                return str(place)
    remedy = (
        "no file of this machine has it: mount Ego4D with `ego4dfs mount`, or prefetch it and"
        " open ego4d:// with copies=DIRECTORY"
    )
    raise OSError(errno.ENOTSUP, remedy, path)


def _object_at(place: Path) -> tuple[str, str] | None:
    """Return URL and ETag of the object behind a file in a mount, or None; waits for 2 s."""
    try:
        return call_with_timeout(_ANSWER_S, lambda: _read_object(place), name="local-path")
    except (OSError, CallTimeout):
        return None


def _read_object(place: Path) -> tuple[str, str]:
    place.stat()  # the mount asks the store for the ETag, if it has not done so
    url, etag = (os.getxattr(place, f"user.ego4dfs.{name}") for name in ("s3_uri", "etag"))
    return os.fsdecode(url), os.fsdecode(etag)
