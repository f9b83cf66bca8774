"""Names that a disk takes for one: `Notes.json` and `notes.json` where case does not count.

exFAT, SMB shares, APFS and ext4 with casefold find a file under more names than its own. Two
objects of such names would overwrite each other in every run. Which names a disk takes for one
differs, so the disk is tested with exactly these names, and only where two may collide.
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
    """Return the other names that files of a dataset have on this disk, by their own names.

    `entries` are all of its manifest, so that a name does not depend on what is selected. The
    first of several keeps its name, later ones are `stem~2.ext`, as for equal names. Empty
    almost always, and then without a look at the disk. With `writable` a file is made for a
    moment where nothing lies that shows it.
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
    if not later:
        return {}
    renamed: dict[str, str] = {}
    # No disk yet, or one that cannot be tested: then nothing is known.
    with suppress(OSError), _nearest(layout, dataset) as folder:
        _rename(partial(_is_one, folder, writable=writable), later, taken, renamed)
    return renamed


def with_disk_names(entries: Sequence[Entry], names: Mapping[str, str]) -> Sequence[Entry]:
    """Return the same entries, by the names that they have on this disk."""
    if not names:
        return entries
    return [entry._replace(name=names.get(entry.name, entry.name)) for entry in entries]


def _rename(
    is_one: Callable[[str, str], bool],
    later: Iterable[str],
    taken: Mapping[str, list[str]],
    renamed: dict[str, str],
) -> None:
    used = {folded(name) for name in taken}
    for name in later:
        before = taken[folded(name)]
        others = (renamed.get(other, other) for other in before[: before.index(name)])
        if any(is_one(other, name) for other in others):
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


def _is_one(folder: Folder, one: str, other: str, *, writable: bool) -> bool:
    """Return whether a disk treats two names as one, by existing files, else by a new one."""
    found, also = folder.status(one), folder.status(other)
    if found is None or also is None:
        if found is not also:
            return False
    elif not os.path.samestat(found, also) or found.st_nlink == 1:
        return os.path.samestat(found, also)
    if not writable:
        return _ignores_case(folder)
    try:
        hidden, descriptor = folder.create_hidden(one)
    except OSError:
        return False  # not writable, or no such name: then neither file will exist
    try:
        os.close(descriptor)
        found = hidden.status(other)
    finally:
        hidden.remove(one)
    return found is not None


def _ignores_case(folder: Folder) -> bool:
    """Return whether the disk ignores case, by our own directory if it exists."""
    found, also = folder.status(HIDDEN), folder.status(HIDDEN.upper())
    return found is not None and also is not None and os.path.samestat(found, also)
