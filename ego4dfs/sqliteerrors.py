"""What a user can do when SQLite fails: it says why in words."""

from __future__ import annotations


def remedy(error: Exception, *, clear: str) -> str:
    """Return the hint for an index that cannot be used; `clear` is the command that remakes it."""
    reason = str(error).lower()
    if "full" in reason or "no space" in reason:
        return "make room, or name another directory with --cache-dir"
    if "locked" in reason or type(error).__name__ == "Timeout":
        return "another process holds it; try again, or name another directory with --cache-dir"
    return f"if it is damaged, `{clear}` makes a new one"
