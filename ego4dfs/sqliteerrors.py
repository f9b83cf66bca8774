"""What a user can do when SQLite fails, and how to look at a database that is not ours to write."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path


def is_locked(error: BaseException | None) -> bool:
    """Tell whether the cause of an error is that another process holds the database."""
    while error is not None:
        if "locked" in str(error) and isinstance(error, sqlite3.OperationalError):
            return True
        error = error.__cause__ or error.__context__  # diskcache raises its own in its place
    return False


def remedy(error: Exception, *, clear: str) -> str:
    """Return the hint for an index that cannot be used; `clear` is the command that remakes it."""
    reason = str(error).lower()
    if "full" in reason or "no space" in reason:
        return "make room, or name another directory with --cache-dir"
    if "locked" in reason or type(error).__name__ == "Timeout":
        return "another process holds it; try again, or name another directory with --cache-dir"
    return f"if it is damaged, `{clear}` makes a new one"


def for_reading(path: Path) -> str:
    """Return what to open for looking at a database; "" where there is none to be read.

    One with a write-ahead log that nobody writes is opened as it lies: in a directory that cannot
    be written SQLite can make none of the files that it keeps beside one that is in use.
    """
    if not os.access(path, os.R_OK):
        return ""  # none, or somebody else's
    is_idle = not path.with_name(f"{path.name}-wal").exists() and _has_log(path)
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if is_idle else ''}"


def _has_log(path: Path) -> bool:
    """Tell whether a database is of the kind that has a write-ahead log."""
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == b"\2\2"
    except OSError:
        return False
