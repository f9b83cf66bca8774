"""Local files that appear under their name when they are complete."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete_or_absent(target: str) -> Iterator[str]:
    """Yield the path to write to; it gets the name `target` at the end.

    If the block raises, what was written is removed, and a file that `target` names stays. What is
    there and is not a regular file, such as a device or a link, is written itself.
    """
    place = Path(target)
    if place.is_symlink() or (place.exists() and not place.is_file()):
        yield target
        return
    partial = place.with_name(f".ego4dfs-{secrets.token_hex(6)}.part")
    try:
        yield str(partial)
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
