"""TreeUnderTest: what TreeMachine does to a tree, and the faults that it may start there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ego4dfs.testing.faces import OpeningFace


@dataclass(frozen=True)
class Fault:
    """A fault of the store, and what programs may see of it.

    Calls that need the store may fail with `errnos`, and for `remembered_s` seconds after the end
    of the fault. With `hides_size`, the size of a file that was refused may be unknown from then
    on; with `falsifies_size`, a stat may report another one until the file is opened.
    """

    name: str
    errnos: frozenset[int] = frozenset()
    remembered_s: float = 0.0
    hides_size: bool = False
    falsifies_size: bool = False


class TreeUnderTest(Protocol):
    """A tree that shows files of a store, and ways to change both.

    `names` are the files of `directory`, which has no others but manifest.csv. With
    `caches_attributes` a stat may return attributes from before a replacement. With `shares_size`,
    as in a kernel, reads of a replaced file may end where a later version ends. It is opened again
    at most `max_remounts` times in an example.
    """

    names: Sequence[str]
    directory: str
    faults: Sequence[Fault]
    caches_attributes: bool
    shares_size: bool
    max_remounts: int

    @property
    def face(self) -> OpeningFace:
        """The calls to read; others after `remount`."""

    def put(self, name: str, data: bytes) -> None:
        """Put or replace the object of a file."""

    def start_fault(self, fault: Fault, name: str) -> None:
        """Let requests for the object of a file fail, until `end_faults`; there is no other."""

    def end_faults(self) -> None:
        """Let no request fail any more."""

    def expire_keys(self) -> None:
        """Reject the key of all requests, until `renew_keys`."""

    def renew_keys(self) -> None:
        """Provide a key that is accepted."""

    def evict(self) -> bool:
        """Remove cached bytes of objects; return whether none can be left anywhere."""

    def remount(self) -> None:
        """Close the tree and open it again, on the same cache. No file is open."""

    def close(self) -> None:
        """Close the tree, and release what it used."""
