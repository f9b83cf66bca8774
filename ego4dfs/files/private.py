"""Directories that only this user can enter."""

from __future__ import annotations

from pathlib import Path


def make_private(directory: Path) -> None:
    """Create a directory and its missing parents, for this user only (mode 0700).

    Directories that exist keep their modes. Raises OSError.
    """
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
