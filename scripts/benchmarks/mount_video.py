"""Windows of real videos: the time to decode one, and the bytes it needs."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from benchmarks import RunError, samples
from benchmarks.servers import Servers
from ego4dfs.demo import media
from ego4dfs.demo.media import FRAME_RATE, Clip
from ego4dfs.demo.videos import CONSORTIUM

WINDOW_S = 2
LONG = Clip(number=7, duration_s=380, width=384, height=216, bit_rate=6_000_000, key_frame_s=4)
"""With the bit rate of full_scale, 550 kB/s, and its key frames: 209 MB."""
SHORT = Clip(number=7, duration_s=60)
_PAGE = 4 << 10


@dataclass(frozen=True, slots=True)
class Films:
    """A published dataset of one video under several keys, each read at another position."""

    dataset: str
    clip: Clip
    local: Path
    names: Sequence[str]
    begins_s: Sequence[int]


def publish(servers: Servers, dataset: str, count: int, clip: Clip) -> Films:
    """Make and publish a video under `count` keys; a tool reads each of them once, cold."""
    local = media.make_all([clip], servers.directory / "films")[clip]  # made once for all rows
    uids = [f"{dataset}_{number:02}" for number in range(count)]
    for uid in uids:
        servers.s3.put(CONSORTIUM, samples.key(dataset, uid), local)
    samples.publish_manifest(servers, dataset, uids)
    rng = random.Random("windows")
    begins = [rng.randrange(5, clip.duration_s - WINDOW_S - 5) for _ in uids]
    return Films(dataset, clip, local, [f"{uid}.mp4" for uid in uids], begins)


def window(source: Path | io.RawIOBase, clip: Clip, begin_s: int) -> float:
    """Decode a window and return the seconds from open to its last frame; the frames are checked.

    Each frame has a stamp. Raises RunError if a frame is missing or another one was decoded.
    """
    begin = time.perf_counter()
    first, last = begin_s * FRAME_RATE, (begin_s + WINDOW_S) * FRAME_RATE
    frames = []
    with av.open(source if isinstance(source, io.RawIOBase) else str(source)) as container:
        stream = container.streams.video[0]
        container.seek(int(begin_s / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            number = round(frame.time * FRAME_RATE)
            if number >= first:
                frames.append(frame)
            if number >= last - 1:
                break
        seconds = time.perf_counter() - begin
    seen = [media.read_stamp(frame.to_ndarray(format="gray")) for frame in frames]
    if seen != [(clip.number, number) for number in range(first, last)]:
        raise RunError(f"other frames than those of second {begin_s} were decoded")
    return seconds


def needed_bytes(films: Films) -> int:
    """Return the bytes that decoding all windows reads, each page of 4 KiB counted once."""
    total = 0
    for begin_s in films.begins_s:
        with _Counting(films.local) as source:
            window(source, films.clip, begin_s)
            total += len(source.pages) * _PAGE
    return total


class _Counting(io.RawIOBase):
    """A local file that records which of its pages are read."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.pages: set[int] = set()

    def read(self, size: int = -1) -> bytes:
        """Read, and record the pages."""
        start = self._file.tell()
        data = self._file.read(size)
        self.pages.update(range(start // _PAGE, -(-(start + len(data)) // _PAGE)))
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def readable(self) -> bool:
        """Return True: the file is open for reading."""
        return True

    def seekable(self) -> bool:
        """Return True: a local file has positions."""
        return True

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()
