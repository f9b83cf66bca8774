"""Atomic replacement of small files: after a power cut either the old or the new file exists."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from ego4dfs.files.folder import Content, Folder, pieces_of


def write_atomic(path: Path, content: Content, *, is_shared: bool = False) -> None:
    """Write `content` to a temporary file, sync it, and rename it to `path`.

    With `is_shared`, others may write to the directory: see `Folder.write_atomic`. Without, the
    file has mode 0600, and a failed sync is an error. Raises OSError, and what the pieces of
    `content` raise; then an old file stays.
    """
    if is_shared:
        with Folder.at(path.parent) as folder:
            folder.write_atomic(path.name, content)
    else:
        _write_private(path, content)


def _write_private(path: Path, content: Content) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(partial, "wb", opener=lambda name, _: os.open(name, flags, 0o600)) as file:
            file.writelines(pieces_of(content))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Sync the new name, because some filesystems do not write names in order."""
    with suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
