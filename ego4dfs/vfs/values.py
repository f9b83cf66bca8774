"""What the VFS answers with: values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ego4dfs.blocks import ObjectRef
from ego4dfs.copies import Copy
from ego4dfs.reader import Window
from ego4dfs.store import ObjectFacts


@dataclass(frozen=True, slots=True)
class Stat:
    """What a path is. `size` is 0 for directories, and for files whose size cannot be had.

    `is_known` tells those files from empty ones. `mtime_ns` is the store's LastModified; for a
    directory that of its manifest.
    """

    inode: int
    is_dir: bool
    size: int
    mtime_ns: int
    is_known: bool = True

    @classmethod
    def of(cls, number: int, facts: ObjectFacts) -> Stat:
        """Return the Stat of an object."""
        return cls(number, is_dir=False, size=facts.size, mtime_ns=facts.mtime_ns)


class DirEntry(NamedTuple):
    """One name in a directory."""

    name: str
    inode: int
    is_dir: bool


class Handle:
    """An open file: one version of its bytes, where they are, and how it is being read."""

    __slots__ = ("content", "copy", "etag", "path", "ref", "size", "version", "window")

    def __init__(
        self,
        path: str,
        *,
        ref: ObjectRef | None = None,
        content: bytes = b"",
        copy: Copy | None = None,
        drops: int = 0,
    ) -> None:
        """Open an object version, of which there may be a copy, or bytes that are in memory.

        `drops` counts how often cached bytes of it were found wrong.
        """
        self.path = path
        self.ref = ref
        self.copy = copy
        self.content = memoryview(content)
        self.size = ref.size if ref else len(content)
        self.etag = ref.etag if ref else ""
        self.version = f"{self.etag} {drops}"  # the same as long as the kernel's pages are right
        self.window = Window() if ref else None
