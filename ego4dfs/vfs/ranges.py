"""Reading of ranges of a file: the parts that have them, and nothing fetched ahead of those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from ego4dfs.blocks import whole_parts
from ego4dfs.errors import ObjectChanged
from ego4dfs.reader import ExactWindow
from ego4dfs.reader.window import READAHEAD_STEP
from ego4dfs.vfs.values import Handle
from ego4dfs.vfs.vfs import VFS

_BATCH_BYTES = 2 * READAHEAD_STEP
_CHUNK_BYTES = READAHEAD_STEP


def open_range(
    vfs: VFS, path: str, start: int | None, end: int | None, *, reads_ahead: bool = True
) -> tuple[Handle, range]:
    """Open a file to read its bytes [start, end), and return which these are.

    As in a slice, None stands for the start or the end of the file, and negative positions count
    from its end. `reads_ahead` is that of `VFS.open`. Raises what `VFS.open` and `VFS.confirm`
    raise.
    """
    handle = vfs.open(path, first_offset=start or 0, reads_ahead=reads_ahead)
    return handle, _resolve(vfs, handle, start, end)


def read_range(vfs: VFS, path: str, start: int | None, end: int | None) -> bytes:
    """Return the bytes [start, end) of a file, as `open_range` says.

    Raises what `VFS.open` and `VFS.read` raise.
    """
    try:
        return _read(vfs, path, start, end)
    except ObjectChanged:  # or its size was wrong; no bytes were returned yet
        return _read(vfs, path, start, end)


def read_ranges(
    vfs: VFS, path: str, wanted: Sequence[tuple[int | None, int | None]]
) -> list[bytes | Exception]:
    """Return the bytes of each range of a file, or its error; all are of one version of it.

    The file is opened once. Parts that several ranges need are fetched once, and adjacent ones by
    one request; while some ranges are read, the next _BATCH_BYTES are requested.
    Raises what `VFS.open` raises.
    """
    try:
        return _read_all(vfs, path, wanted, may_change=False)
    except ObjectChanged:
        return _read_all(vfs, path, wanted, may_change=True)


def read_chunks(vfs: VFS, path: str, start: int | None, end: int | None) -> Iterator[memoryview]:
    """Yield the bytes [start, end) of a file, some MiB at a time; each is valid until the next.

    Of a file without an end, as much is fetched ahead as of one that is read in order. Raises what
    `VFS.open` and `VFS.read` raise; ObjectChanged only after the first bytes.
    """
    return _chunks(vfs, partial(open_range, vfs, path, start, end), end, _CHUNK_BYTES)


def read_file(
    vfs: VFS, path: str, chunk_bytes: int, opened: Callable[[int], object]
) -> Iterator[memoryview]:
    """Yield the bytes of a file as `read_chunks` does, in chunks of a given size.

    `opened` is called with the size of the file. The open counts as none of a program that goes
    through a directory.
    """

    def opening() -> tuple[Handle, range]:
        handle, wanted = open_range(vfs, path, None, None, reads_ahead=False)
        opened(len(wanted))
        return handle, wanted

    return _chunks(vfs, opening, None, chunk_bytes)


def _chunks(
    vfs: VFS, opening: Callable[[], tuple[Handle, range]], end: int | None, chunk_bytes: int
) -> Iterator[memoryview]:
    for attempt in range(2):
        has_bytes = False
        try:
            handle, wanted = opening()
            if handle.window is not None and end is not None:
                handle.window = ExactWindow(wanted.stop)
            buffer = memoryview(bytearray(min(chunk_bytes, len(wanted))))
            for at in wanted[::chunk_bytes]:
                chunk = buffer[: min(chunk_bytes, wanted.stop - at)]
                vfs.read_into(handle, at, chunk)
                has_bytes = True
                yield chunk
        except ObjectChanged:
            if attempt or has_bytes:
                raise
        else:
            return


def _read(vfs: VFS, path: str, start: int | None, end: int | None) -> bytes:
    handle, wanted = open_range(vfs, path, start, end)
    return _read_exactly(vfs, handle, wanted)


def _read_exactly(vfs: VFS, handle: Handle, wanted: range) -> bytes:
    if handle.window is not None:
        handle.window = ExactWindow(wanted.stop)
    return vfs.read(handle, wanted.start, len(wanted))


def _read_all(
    vfs: VFS, path: str, wanted: Sequence[tuple[int | None, int | None]], *, may_change: bool
) -> list[bytes | Exception]:
    """Read ranges in the order of their positions; raise ObjectChanged unless `may_change`."""
    handle = vfs.open(path, first_offset=wanted[0][0] or 0)
    places = [_resolve(vfs, handle, start, end) for start, end in wanted]
    found: list[bytes | Exception] = [b""] * len(wanted)
    batches = list(_batches(places))
    _request(vfs, handle, (places[number] for number in batches[0]))
    for batch, following in zip(batches, [*batches[1:], []], strict=True):
        _request(vfs, handle, (places[number] for number in following))
        for number in batch:
            result = found[number] = _bytes_or_error(vfs, handle, places[number])
            if isinstance(result, ObjectChanged) and not may_change:
                raise result
    return found


def _bytes_or_error(vfs: VFS, handle: Handle, wanted: range) -> bytes | Exception:
    try:
        return _read_exactly(vfs, handle, wanted)
    except Exception as error:  # noqa: BLE001 - returned in place of the bytes
        return error


def _batches(places: Sequence[range]) -> Iterator[list[int]]:
    """Yield the numbers of ranges in the order of their positions, up to _BATCH_BYTES at a time."""
    batch: list[int] = []
    size = 0
    for number in sorted(range(len(places)), key=lambda number: places[number].start):
        if batch and size + len(places[number]) > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(number)
        size += len(places[number])
    yield batch


def _request(vfs: VFS, handle: Handle, wanted: Iterable[range]) -> None:
    """Request what is missing of these ranges; a long one is requested as it is read."""
    short = [place for place in wanted if len(place) <= _BATCH_BYTES]
    if handle.ref is not None and handle.copy is None:
        vfs.session.reader.request_parts(handle.ref, whole_parts(short, handle.size))


def _resolve(vfs: VFS, handle: Handle, start: int | None, end: int | None) -> range:
    """Return where [start, end) is in an open file; an empty range is confirmed to be empty."""
    begin, stop, _ = slice(start, end).indices(handle.size)
    if begin >= stop and not _is_empty_at_any_size(start, end):
        vfs.confirm(handle)
    return range(begin, max(begin, stop))


def _is_empty_at_any_size(start: int | None, end: int | None) -> bool:
    """Return whether [start, end) has no bytes, however large the file is."""
    if end is None or start is None:
        return end == 0
    return end == 0 or (end <= start and (start < 0) == (end < 0))
