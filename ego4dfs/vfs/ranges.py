"""Reading of one range of a file: its bytes, and nothing fetched ahead of them."""

from __future__ import annotations

from ego4dfs.errors import ObjectChanged
from ego4dfs.reader import ExactWindow
from ego4dfs.vfs.values import Handle
from ego4dfs.vfs.vfs import VFS


def open_range(vfs: VFS, path: str, start: int | None, end: int | None) -> tuple[Handle, range]:
    """Open a file to read its bytes [start, end), and return which these are.

    As in a slice, None stands for the start or the end of the file, and negative positions count
    from its end. Raises what `VFS.open` and `VFS.confirm` raise.
    """
    handle = vfs.open(path, first_offset=start or 0)
    begin, stop, _ = slice(start, end).indices(handle.size)
    if begin >= stop and not _is_empty_at_any_size(start, end):
        vfs.confirm(handle)
    if handle.window is not None:
        handle.window = ExactWindow(stop)
    return handle, range(begin, max(begin, stop))


def read_range(vfs: VFS, path: str, start: int | None, end: int | None) -> bytes:
    """Return the bytes [start, end) of a file, as `open_range` says.

    Raises what `VFS.open` and `VFS.read` raise.
    """
    try:
        return _read(vfs, path, start, end)
    except ObjectChanged:  # or its size was wrong; no bytes were returned yet
        return _read(vfs, path, start, end)


def _read(vfs: VFS, path: str, start: int | None, end: int | None) -> bytes:
    handle, wanted = open_range(vfs, path, start, end)
    return vfs.read(handle, wanted.start, len(wanted))


def _is_empty_at_any_size(start: int | None, end: int | None) -> bool:
    """Return whether [start, end) has no bytes, however large the file is."""
    if end is None or start is None:
        return end == 0
    return end == 0 or (end <= start and (start < 0) == (end < 0))
