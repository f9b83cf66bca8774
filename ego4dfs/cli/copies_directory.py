"""The directory of downloaded files that -o names: absolute, and not inside or above a mount."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ego4dfs.config import Config
from ego4dfs.errors import ConfigError, MountError
from ego4dfs.files.mountinfo import mounts, resolve_path
from ego4dfs.text import shell_word

_IMPOSSIBLE = (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def copies_directory(config: Config, *, example: str, or_else: str = "") -> Path:
    """Return the directory, without links. `example` is a command line for the error's hint.

    `or_else` is appended to the hint to unmount: what the user can do instead.

    Raises ConfigError if no directory was given or it cannot be one, and MountError if an ego4dfs
    is mounted at it, above it or below it: then the files on disk cannot be seen or written.
    """
    if config.output_directory is None:
        raise ConfigError(
            "no output directory was given", hint=f"give the directory of the files: {example}"
        )
    out = resolve_path(config.output_directory)
    for mount in mounts():
        place = mount.mountpoint
        if mount.is_ours and (place == out or place in out.parents or out in place.parents):
            unmount = f"`ego4dfs unmount {shell_word(str(place))}`"
            raise MountError(
                f"{out}: an ego4dfs is mounted at {place}, which is read-only and hides the files"
                " on disk",
                hint=f"{unmount} first{or_else}",
            )
    _check(out)
    return out


def _check(out: Path) -> None:
    """Raise ConfigError if something else than a directory is there, before any request."""
    try:
        reason = "" if stat.S_ISDIR(out.stat().st_mode) else "not a directory"
    except OSError as error:  # a missing one is created, and others have a remedy of their own
        reason = os.strerror(error.errno).lower() if error.errno in _IMPOSSIBLE else ""
    if reason:
        raise ConfigError(f"{out}: {reason}", hint="name a directory with -o")
