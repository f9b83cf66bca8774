"""File names that collide on a disk: `Notes.json` and `notes.json` where case is ignored.

exFAT, SMB shares, APFS and ext4 with casefold open a file by other names than its own. Two objects
with such names would overwrite each other in every run. Disks differ in which names collide, so
the disk is tested with exactly these names, and only if two may collide.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from ego4dfs.copies.layout import Layout
from ego4dfs.files import HIDDEN, Folder
from ego4dfs.manifest import RESERVED_NAMES, Entry, numbered
from ego4dfs.text import folded

_RESERVED = frozenset(map(folded, RESERVED_NAMES))


def disk_names(
    layout: Layout, dataset: str, entries: Sequence[Entry], *, writable: bool
) -> dict[str, str]:
    """Return the names that files of a dataset have on this disk instead of their own, by those.

    `entries` are all of its manifest, so that a name does not depend on what is selected. The
    first of several names that collide stays, and later ones become `stem~2.ext`, as for equal
    names. The result is nearly always empty, and then the disk is not accessed. With `writable`
    a temporary file is created if the existing files do not show whether two names collide.
    """
    names_in_use = {folded(entry.name) for entry in entries}
    if len(names_in_use) == len(entries) and not names_in_use & _RESERVED:
        return {}
    taken: dict[str, list[str]] = {folded(name): [name] for name in RESERVED_NAMES}
    later: list[str] = []
    for entry in entries:
        names = taken.setdefault(folded(entry.name), [])
        if names:
            later.append(entry.name)
        names.append(entry.name)
    renamed: dict[str, str] = {}
    # If the root does not exist, or cannot be tested, no collision is known.
    with suppress(OSError), _nearest(layout, dataset) as folder:
        _rename(partial(_collide, folder, writable=writable), later, taken, renamed)
    return renamed


def with_disk_names(entries: Sequence[Entry], names: Mapping[str, str]) -> Sequence[Entry]:
    """Return the same entries with the names that they have on this disk."""
    if not names:
        return entries
    return [entry._replace(name=names.get(entry.name, entry.name)) for entry in entries]


def _rename(
    collide: Callable[[str, str], bool],
    later: Iterable[str],
    taken: Mapping[str, list[str]],
    renamed: dict[str, str],
) -> None:
    used = {folded(name) for name in taken}
    for name in later:
        names = taken[folded(name)]
        earlier = (renamed.get(other, other) for other in names[: names.index(name)])
        if any(collide(other, name) for other in earlier):
            number = 2
            while folded(numbered(name, number)) in used:
                number += 1
            renamed[name] = numbered(name, number)
            used.add(folded(renamed[name]))


def _nearest(layout: Layout, dataset: str) -> Folder:
    """Open the directory of a dataset, or its nearest parent that exists."""
    path = layout.dataset(dataset)
    while not path.is_dir() and path != layout.root:
        path = path.parent
    with Folder.at(layout.root) as root:
        return root.below(str(path.relative_to(layout.root)) if path != layout.root else "")


def _collide(folder: Folder, one: str, other: str, *, writable: bool) -> bool:
    """Return whether two names are the same file, by existing files, else by a temporary one."""
    known = _collide_now(folder, one, other)
    if known is not None:
        return known
    if not writable:
        return _ignores_case(folder)
    try:
        hidden, descriptor = folder.create_hidden(one)
    except OSError:
        return False  # not writable, or not a valid name: then neither file can be created
    try:
        os.close(descriptor)
        found = hidden.status(other)
    finally:
        hidden.remove(one)
    return found is not None


def _collide_now(folder: Folder, one: str, other: str) -> bool | None:
    """Return whether two names are the same file, or None if existing files do not show it.

    Inode numbers that differ prove nothing: some filesystems, such as those of FUSE that set none,
    give each name of a file one of its own.
    """
    first, second = folder.status(one), folder.status(other)
    if first is None or second is None:
        return None if first is second else False
    if os.path.samestat(first, second):
        return True if first.st_nlink == 1 else None
    return not {one, other} <= set(folder.names())


def _ignores_case(folder: Folder) -> bool:
    """Return whether the disk ignores case, as our hidden directory shows, if it exists."""
    is_found = None not in {folder.status(HIDDEN), folder.status(HIDDEN.upper())}
    return is_found and HIDDEN.upper() not in folder.names()
