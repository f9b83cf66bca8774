"""The values that a VFS returns: Stat, DirEntry, Handle, Origin and Totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ego4dfs.blocks import ObjectRef
from ego4dfs.copies import Copy
from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader import Window
from ego4dfs.store import ObjectFacts


@dataclass(frozen=True, slots=True)
class Stat:
    """The attributes of a path. `size` is 0 for directories, and for files of unknown size.

    `is_known` is False for files of unknown size only. `mtime_ns` is the store's LastModified,
    for a directory that of its manifest.
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


@dataclass(frozen=True, slots=True)
class Origin:
    """The object behind a path: its URL, and its facts if they are known without a request."""

    url: str
    facts: ObjectFacts | None


class Totals(NamedTuple):
    """A number of objects, and their bytes in all."""

    objects: int
    size_bytes: int


class DirEntry(NamedTuple):
    """One name in a directory."""

    name: str
    inode: int
    is_dir: bool


class Content(Protocol):
    """The bytes of a file that is made of others."""

    size: int

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill `view` with the bytes from `offset` on; return how many there were."""


class Handle:
    """An open file: one version of it, its copy on disk if any, and its read-ahead window.

    `made` has the bytes of a file that is made of others; there is no object then.
    """

    __slots__ = (
        "content",
        "copy",
        "etag",
        "made",
        "path",
        "ref",
        "size",
        "unreachable",
        "version",
        "window",
    )

    def __init__(
        self,
        path: str,
        *,
        ref: ObjectRef | None = None,
        content: bytes = b"",
        copy: Copy | None = None,
        drops: int = 0,
        unreachable: StoreUnavailable | None = None,
    ) -> None:
        """Open one version of an object, `ref`, or the bytes `content`.

        `drops` counts how often cached bytes of the object were damaged and removed.
        `unreachable` is the error of a store that does not answer: only the copy can be read.
        """
        self.path = path
        self.ref = ref
        self.copy = copy
        self.unreachable = unreachable
        self.content = memoryview(content)
        self.size = ref.size if ref else len(content)
        self.etag = ref.etag if ref else ""
        # Equal as long as the kernel's pages are valid.
        self.version = f"{self.etag} {copy.mtime_ns if copy and unreachable else drops}"
        self.window = Window() if ref else None
        self.made: Content | None = None

    @classmethod
    def of_made(cls, path: str, made: Content, source: Handle) -> Handle:
        """Open a file that is made of `source`: it is another version whenever that is."""
        handle = cls(path)
        handle.made, handle.size = made, made.size
        handle.etag, handle.version = source.etag, source.version
        return handle
