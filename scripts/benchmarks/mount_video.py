"""Windows of real videos: the time to decode one, and the bytes it needs."""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import av
import numpy as np

from benchmarks import RunError, samples
from benchmarks.servers import Servers
from ego4dfs.demo import media
from ego4dfs.demo.media import FRAME_RATE, Clip
from ego4dfs.demo.videos import CONSORTIUM
from ego4dfs.media import find_index

WINDOW_S = 2
FRAMES = WINDOW_S * FRAME_RATE
_MINOR_VERSION_AT = 12  # after the size and kind of the box, and the major brand
LONG = Clip(number=7, duration_s=380, width=384, height=216, bit_rate=6_000_000, key_frame_s=4)
"""With the bit rate of full_scale, 550 kB/s, and its key frames: 209 MB."""
SHORT = Clip(number=7, duration_s=60)


@dataclass(frozen=True, slots=True)
class Films:
    """A published dataset of one video under several keys, each read at another position.

    Each object has a minor version of its own, so that no two have the same ETag. A box at the end
    would do as well, but players would read it: one round trip more if the index is at the front.
    """

    dataset: str
    clip: Clip
    local: Path
    uids: Sequence[str]
    begins_s: Sequence[int]

    @property
    def names(self) -> Sequence[str]:
        """The local names of the files."""
        return [f"{uid}.mp4" for uid in self.uids]


@cache
def publish(servers: Servers, dataset: str, count: int, clip: Clip) -> Films:
    """Make and publish a video under `count` keys, once in a run of the benchmark."""
    local = media.make_all([clip], servers.directory / "films")[clip]  # made once for all rows
    content = local.read_bytes()
    uids = [f"{dataset}_{number:02}" for number in range(count)]
    for number, uid in enumerate(uids):
        servers.s3.put(CONSORTIUM, samples.key(dataset, uid), _numbered(content, number))
    samples.publish_manifest(servers, dataset, uids)
    return Films(dataset, clip, local, uids, random_begins(clip, count))


def _numbered(content: bytes, number: int) -> bytes:
    """Return a video with this minor version, which players ignore, in its first box (`ftyp`)."""
    return (
        content[:_MINOR_VERSION_AT] + struct.pack(">I", number) + content[_MINOR_VERSION_AT + 4 :]
    )


def random_begins(clip: Clip, count: int) -> list[int]:
    """Return the seconds at which windows begin; the same ones in every run."""
    rng = random.Random("windows")
    return [rng.randrange(5, clip.duration_s - WINDOW_S - 5) for _ in range(count)]


def decode(
    source: Path | BinaryIO, begin_s: int, *, file_begin_s: int = 0
) -> Iterator[av.VideoFrame]:
    """Yield the frames of a window of a file that begins at second `file_begin_s` of the video."""
    first = begin_s * FRAME_RATE
    with av.open(str(source) if isinstance(source, Path) else source) as container:
        stream = container.streams.video[0]
        container.seek(int((begin_s - file_begin_s) / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            number = round((frame.time + file_begin_s) * FRAME_RATE)
            if number >= first:
                yield frame
            if number >= first + FRAMES - 1:
                break


def check(pictures: Iterable[Any], clip: Clip, begin_s: int) -> None:
    """Raise RunError unless these are the pictures of a window, by their stamps.

    A picture is an array of colours, or a frame of PyAV.
    """
    seen = [media.read_stamp(_luma(picture)) for picture in pictures]
    first = begin_s * FRAME_RATE
    if seen != [(clip.number, number) for number in range(first, first + FRAMES)]:
        raise RunError(f"other frames than those of second {begin_s} were decoded")


def window(path: Path, clip: Clip, begin_s: int) -> float:
    """Decode a window and return the seconds from open to its last frame; the frames are checked.

    Raises RunError if a frame is missing or another one was decoded.
    """
    begin = time.perf_counter()
    frames = list(decode(path, begin_s))
    seconds = time.perf_counter() - begin
    check(frames, clip, begin_s)
    return seconds


def waits_ms(waits: Sequence[float], plain: Sequence[float]) -> dict[str, float]:
    """Return the median of the seconds that windows took, and of those above a local file."""
    above = [took - alone for took, alone in zip(waits, plain, strict=True)]
    return {"above_ms": median(above) * 1e3, "wait_ms": median(waits) * 1e3}


def needed_bytes(films: Films, *, with_index: bool = True) -> int:
    """Return the bytes of all windows, and with `with_index` those of the index of each file."""
    windows = sum(len(window_bytes(films.local, begin_s)) for begin_s in films.begins_s)
    return windows + (len(films.uids) * _index_bytes(films.local) if with_index else 0)


def window_bytes(path: Path, begin_s: int) -> range:
    """Return the bytes from the key frame before a window to its last frame, with all tracks."""
    last = begin_s * FRAME_RATE + FRAMES - 1
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(begin_s / stream.time_base), stream=stream)
        packets = takewhile(
            lambda packet: round(packet.pts * stream.time_base * FRAME_RATE) <= last,
            container.demux(stream),
        )
        places = [range(packet.pos, packet.pos + packet.size) for packet in packets]
    return range(places[0].start, places[-1].stop)


def _index_bytes(path: Path) -> int:
    with path.open("rb") as file:
        size = path.stat().st_size
        found = find_index(size, lambda offset, length: os.pread(file.fileno(), length, offset))
    return len(found.moov)


def _luma(picture: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the brightness of a picture; stamps are black and white, so green is as good."""
    if isinstance(picture, np.ndarray):
        return picture[..., 1]
    luma: np.ndarray[Any, np.dtype[np.uint8]] = picture.to_ndarray(format="gray")
    return luma
