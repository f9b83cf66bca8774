"""Real videos: two seconds at a random place with PyAV, and decord, which reads the whole file."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from statistics import median

from benchmarks import RunError, mount_video
from benchmarks.goals import MEMORY, at_most, best_of
from benchmarks.mount_reads import Reading, measured
from benchmarks.mount_video import WINDOW_S, window
from benchmarks.mounts import RCLONE, S3FS, Mounted, cold
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.servers import Servers

_FILMS = 4
_DECORD = """
import sys, time
import decord
begin = time.perf_counter()
frames = len(decord.VideoReader(sys.argv[1], num_threads=1))
print(frames, time.perf_counter() - begin)
"""
_Prepare = Callable[[Servers], AbstractContextManager[Sequence[Contender]]]


def _windows(where: str) -> _Prepare:
    @contextmanager
    def prepare(servers: Servers) -> Iterator[Sequence[Contender]]:
        name = f"mount_film_{where}"
        film = replace(mount_video.LONG, faststart=where == "front")
        films = mount_video.publish(servers, name, _FILMS, film)
        needed = mount_video.needed_bytes(films)

        def work(mount: Mounted) -> Sample:
            waits: list[float] = []
            list(mount.files.iterdir())
            plain = [window(films.local, films.clip, begin_s) for begin_s in films.begins_s]

            def decode() -> Reading:
                for film, begin_s in zip(films.names, films.begins_s, strict=True):
                    waits.append(window(mount.path(film), films.clip, begin_s))
                return Reading(sum(waits), needed)

            found = measured(mount, decode)
            above = [took - alone for took, alone in zip(waits, plain, strict=True)]
            times = {"above_ms": median(above) * 1e3, "wait_ms": median(waits) * 1e3}
            return found | times | {"window_mib": found["wire_mib"] / _FILMS}

        yield cold(servers, "wan", name, work)

    return prepare


@contextmanager
def _decord(servers: Servers) -> Iterator[Sequence[Contender]]:
    films = mount_video.publish(servers, "mount_decord", 1, mount_video.SHORT)
    size = films.local.stat().st_size

    def work(mount: Mounted) -> Sample:
        opened: list[float] = []

        def open_it() -> Reading:
            frames, seconds = _open_with_decord(str(mount.path(films.names[0])))
            if frames != films.clip.num_frames:
                raise RunError(f"decord counts {frames} frames of {films.clip.num_frames}")
            opened.append(seconds)
            return Reading(seconds, size)

        return measured(mount, open_it) | {"wait_ms": opened[0] * 1e3}

    found = cold(servers, "wan", films.dataset, work)
    missing = "" if importlib.util.find_spec("decord") else "missing: pip install decord"
    yield [Contender(c.name, c.run, c.missing or missing) for c in found]


def _open_with_decord(path: str) -> tuple[int, float]:
    command = [sys.executable, "-c", _DECORD, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RunError(f"decord: {done.stderr.strip()[-200:]}")
    frames, seconds = done.stdout.split()
    return int(frames), float(seconds)


_COSTS = (
    Column("cpu_s", "CPU s"),
    Column("peak_mib", "peak MiB", digits=0),
    Column("requests", "requests", digits=0),
)
ROWS = (
    *(
        Row(
            f"mount-window-{where}",
            "mount",
            f"decode {WINDOW_S} s of a video of {mount_video.LONG.duration_s} s with PyAV, "
            f"index at its {words}, {_FILMS} cold files, distant server",
            (
                Column("above_ms", "ms above a local file", digits=0, spread=True),
                Column("wait_ms", "ms", digits=0),
                Column("window_mib", "MiB on the wire/window", digits=1),
                Column("fetched", "fetched ÷ needed"),
                *_COSTS,
            ),
            _windows(where),
            needs_wan=True,
            goals=[
                best_of(
                    "ms above a local file at most 0.5 × that of the best peer",
                    "above_ms",
                    0.5,
                    S3FS,
                    RCLONE,
                    fewer=True,
                ),
                best_of(
                    "at most 0.5 × the bytes of the best peer",
                    "wire_mib",
                    0.5,
                    S3FS,
                    RCLONE,
                    fewer=True,
                ),
                at_most("at most 4 × as much fetched as decoding reads", "fetched", 4),
                MEMORY,
            ],
        )
        for where, words in (("front", "front"), ("end", "end"))
    ),
    Row(
        "mount-decord",
        "mount",
        f"open a video of {mount_video.SHORT.duration_s} s with decord, which reads all of it, "
        "cold, distant server",
        (
            Column("wait_ms", "ms", digits=0, spread=True),
            Column("fetched", "fetched ÷ size"),
            *_COSTS,
        ),
        _decord,
        needs_wan=True,
        goals=[
            best_of("no slower than the best peer", "wait_ms", 1.0, S3FS, RCLONE, fewer=True),
            MEMORY,
        ],
    ),
)
