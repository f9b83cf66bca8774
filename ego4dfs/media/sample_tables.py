"""The sample tables of a track (ISO/IEC 14496-12, 8.6 and 8.7), decoded with numpy in linear time.

Each table is the body of a full box. Before memory is allocated, the number of its rows is compared
with the length of the box and with the number of samples: a row concerns one sample or more. All
damage is a MediaError.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ego4dfs.errors import MediaError
from ego4dfs.media.boxes import number

Integers = NDArray[np.int64]

_BITS = 8


def sample_sizes(body: memoryview, *, is_compact: bool, max_samples: int) -> Integers:
    """Return the bytes of each sample, from `stsz`, or from `stz2` if `is_compact`.

    Raises MediaError for more than `max_samples`.
    """
    size, count = number(body, 4), number(body, 8)
    if count > max_samples:
        raise MediaError(f"it has more than {max_samples} samples")
    if is_compact:
        return _compact_sizes(body, field_bits=size & 0xFF, count=count)
    if size:
        return np.full(count, size, np.int64)
    return _values(body, ">u4", count, 12).astype(np.int64)


def _compact_sizes(body: memoryview, *, field_bits: int, count: int) -> Integers:
    if field_bits not in {4, 8, 16}:
        raise MediaError(f"its sample sizes have {field_bits} bits")
    if field_bits == 4:
        packed = _values(body, "u1", (count + 1) // 2, 12)
        halves = np.stack([packed >> 4, packed & 0xF], axis=1)
        return halves.reshape(-1)[:count].astype(np.int64)
    return _values(body, f">u{field_bits // _BITS}", count, 12).astype(np.int64)


def decode_times(body: memoryview, samples: int) -> Integers:
    """Return when each sample is decoded, in ticks from 0, and the end of the last (`stts`)."""
    durations = _expanded(_table(body, ">u4", 2, samples), samples, "stts")
    times = np.zeros(samples + 1, np.int64)
    np.cumsum(durations, out=times[1:])
    return times


def composition_offsets(body: memoryview, samples: int) -> Integers:
    """Return the ticks from decoding to presentation of each sample (`ctts`).

    They may be negative. Version 0 of the table is read as signed too, as FFmpeg and others do.
    """
    return _expanded(_table(body, ">i4", 2, samples), samples, "ctts")


def sync_samples(body: memoryview, samples: int) -> NDArray[np.bool_]:
    """Return for each sample whether it is a key frame (`stss`)."""
    numbers = _table(body, ">u4", 1, samples)[:, 0].astype(np.int64)
    if len(numbers) and not (numbers.min() >= 1 and numbers.max() <= samples):
        raise MediaError("its table of key frames names samples that do not exist")
    is_key = np.zeros(samples, np.bool_)
    is_key[numbers - 1] = True
    return is_key


def chunk_offsets(body: memoryview, samples: int, *, is_long: bool) -> NDArray[np.uint64]:
    """Return where each chunk starts in the object, from `stco`, or `co64` if `is_long`."""
    return _table(body, ">u8" if is_long else ">u4", 1, samples)[:, 0].astype(np.uint64)


def samples_of_chunks(body: memoryview, chunks: int, samples: int) -> tuple[Integers, Integers]:
    """Return how many samples each chunk has, and the number of their description (`stsc`)."""
    runs = _table(body, ">u4", 3, samples).astype(np.int64)
    if not len(runs):
        if chunks or samples:
            raise MediaError("its samples are in no chunk")
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    bounds = np.append(runs[:, 0], chunks + 1)
    lengths = np.diff(bounds)
    if bounds[0] != 1 or (lengths <= 0).any():
        raise MediaError("its table of chunks is not in order")
    counts = np.repeat(runs[:, 1], lengths)
    if int(counts.sum()) != samples:
        raise MediaError("its chunks do not have as many samples as there are")
    return counts, np.repeat(runs[:, 2], lengths)


def sample_offsets(
    starts: NDArray[np.uint64], counts: Integers, sizes: Integers, object_size: int
) -> Integers:
    """Return where each sample starts, from the starts of the chunks and their sample counts.

    Raises MediaError if a sample is not inside an object of `object_size` bytes.
    """
    if len(starts) and int(starts.max()) > object_size:
        raise MediaError("its samples are outside the file")
    ends = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    # What precedes a sample in its chunk is the difference of two sums over all samples.
    first = np.cumsum(counts) - counts
    offsets = np.repeat(starts.astype(np.int64) - ends[first], counts) + ends[:-1]
    if len(sizes) and int((offsets + sizes).max()) > object_size:
        raise MediaError("its samples are outside the file")
    return offsets


def _table(body: memoryview, dtype: str, columns: int, samples: int) -> NDArray[np.integer]:
    """Return the rows of a table; their number is its first field."""
    rows = number(body, 4)
    if rows > samples:
        raise MediaError("a table has more rows than there are samples")
    return _values(body, dtype, rows * columns, 8).reshape(rows, columns)


def _values(body: memoryview, dtype: str, count: int, at: int) -> NDArray[np.integer]:
    if count * np.dtype(dtype).itemsize > len(body) - at:
        raise MediaError("a table has more rows than its box holds")
    return np.frombuffer(body, dtype, count, at)


def _expanded(runs: NDArray[np.integer], samples: int, name: str) -> Integers:
    """Return the value of each sample, from rows of a count of samples and their value."""
    counts = runs[:, 0].astype(np.int64)
    if (counts < 0).any() or int(counts.sum()) != samples:
        raise MediaError(f"its table {name} does not have as many samples as there are")
    return np.repeat(runs[:, 1].astype(np.int64), counts)
