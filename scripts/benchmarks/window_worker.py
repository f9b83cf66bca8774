"""A process that decodes windows of videos and checks each picture; `workers` has the protocol.

Its job has a `reader` of READERS with its `options`, the content of the videos (`clip`), and the
`windows`: where a file is, the second at which the window begins, and the second of the video at
which that file begins.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import fsspec
import numpy as np

from benchmarks.mount_video import FRAMES, WINDOW_S, check, decode
from ego4dfs import Ego4D
from ego4dfs.demo.media import FRAME_RATE, Clip

Reader = Callable[[str, int, int], Iterable[Any]]
"""Returns the pictures of a window: arrays of colours, or frames of PyAV."""


def main() -> None:
    """Decode the windows one after the other, and answer with the seconds that each one took."""
    job = json.loads(sys.stdin.readline())
    clip = Clip(**job["clip"])
    read = READERS[job["reader"]](**job["options"])
    print("ready", flush=True)
    sys.stdin.readline()
    begin, seconds = time.monotonic(), []
    for where, begin_s, file_begin_s in job["windows"]:
        before = time.perf_counter()
        pictures = read(where, begin_s, file_begin_s)
        seconds.append(time.perf_counter() - before)
        check(pictures, clip, begin_s)
    print(json.dumps({"begin": begin, "end": time.monotonic(), "seconds": seconds}), flush=True)
    sys.stdin.read()  # whoever measures this process looks at it before it ends


def _pyav() -> Reader:
    def read(path: str, begin_s: int, file_begin_s: int) -> Iterable[Any]:
        pictures = np.empty((0, 0, 0, 3), np.uint8)
        frames = decode(Path(path), begin_s, file_begin_s=file_begin_s)
        for number, frame in enumerate(frames):
            picture = frame.to_ndarray(format="rgb24")
            if not number:  # one array for all from the beginning, as Ego4D.frames has
                pictures = np.zeros((FRAMES, *picture.shape), np.uint8)
            pictures[number] = picture
        return pictures

    return read


def _decord() -> Reader:
    decord: Any = importlib.import_module("decord")

    def read(path: str, begin_s: int, file_begin_s: int) -> Iterable[Any]:
        at = (begin_s - file_begin_s) * FRAME_RATE
        video = decord.VideoReader(path, num_threads=1)
        return cast("Iterable[Any]", video.get_batch(range(at, at + FRAMES)).asnumpy())

    return read


def _ego4d(first_uid: str, **options: Any) -> Ego4D:
    ego4d = Ego4D(**options)
    ego4d.path(first_uid)  # opens the tree
    return ego4d


def _ego4d_frames(**options: Any) -> Reader:
    ego4d = _ego4d(**options)
    return lambda uid, begin_s, _: ego4d.frames(uid, begin_s, begin_s + WINDOW_S)


def _ego4d_window(**options: Any) -> Reader:
    ego4d = _ego4d(**options)

    def read(uid: str, begin_s: int, _: int) -> Iterable[Any]:
        with ego4d.window(uid, begin_s, begin_s + WINDOW_S) as file:
            return list(decode(file, begin_s, file_begin_s=begin_s))

    return read


def _s3fs() -> Reader:
    filesystem = fsspec.filesystem("s3")

    def read(path: str, begin_s: int, _: int) -> Iterable[Any]:
        with filesystem.open(path) as file:
            return list(decode(file, begin_s))

    return read


READERS: dict[str, Callable[..., Reader]] = {
    "PyAV": _pyav,
    "decord": _decord,
    "Ego4D.frames": _ego4d_frames,
    "Ego4D.window": _ego4d_window,
    "s3fs": _s3fs,
}


if __name__ == "__main__":
    main()
