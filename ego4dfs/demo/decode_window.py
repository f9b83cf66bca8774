"""Decode a short window of a video, as a training loader does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import av


@dataclass(frozen=True, slots=True)
class Window:
    """Decoded frames of [start_s, stop_s): how many, and a digest of their pixels."""

    start_s: float
    stop_s: float
    frames: int
    digest: str


def decode_middle(source: Path | IO[bytes], length_s: float = 2.0) -> Window:
    """Seek to the middle of the video and decode `length_s` seconds from there.

    An error that a file object raises is raised here too; FFmpeg may take that of a path for the
    end of the video.
    """
    pixels = hashlib.sha256()
    frames = 0
    with av.open(str(source) if isinstance(source, Path) else source) as container:
        stream = container.streams.video[0]
        start_s = float(container.duration or 0) / av.time_base / 2
        stop_s = start_s + length_s
        container.seek(int(start_s * av.time_base))
        for frame in container.decode(stream):
            if frame.time is None or frame.time < start_s:
                continue
            if frame.time >= stop_s:
                break
            pixels.update(frame.to_ndarray().tobytes())
            frames += 1
    return Window(start_s, stop_s, frames, pixels.hexdigest())
