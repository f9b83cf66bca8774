"""Real videos: two seconds at a random place with PyAV, and decord, which reads the whole file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

from benchmarks import RunError, mount_video, mounts, peers
from benchmarks.filled_caches import CACHED, IMPORTED, with_import, with_indexes
from benchmarks.goals import MEMORY, at_most, best_of
from benchmarks.mount_reads import Reading, measured
from benchmarks.mount_video import WINDOW_S, Films, window
from benchmarks.mounts import OURS, RCLONE, S3FS, Mounted, cold
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.rows.windows import FILMS
from benchmarks.servers import Servers

_DECORD = """
import sys, time
import decord
begin = time.perf_counter()
frames = len(decord.VideoReader(sys.argv[1], num_threads=1))
print(frames, time.perf_counter() - begin)
"""
_CACHED = f"{OURS}, {CACHED}"
_IMPORTED = f"{OURS}, {IMPORTED}"
_Prepare = Callable[[Servers], AbstractContextManager[Sequence[Contender]]]


def _windows(where: str) -> _Prepare:
    @contextmanager
    def prepare(servers: Servers) -> Iterator[Sequence[Contender]]:
        clip = replace(mount_video.LONG, faststart=where == "front")
        films = mount_video.publish(servers, f"film_{where}", FILMS, clip)
        needed = mount_video.needed_bytes(films)
        windows_only = mount_video.needed_bytes(films, with_index=False)
        ours = mounts.ego4dfs()
        through = partial(cold, servers, "wan", films.dataset)
        yield [
            *through(partial(_decode, films=films, needed=needed)),
            *through(
                partial(_decode, films=films, needed=windows_only),
                mounters=[replace(ours, name=_CACHED)],
                fill=with_indexes(servers, films.dataset),
            ),
            *through(
                partial(_decode, films=films, needed=needed),
                mounters=[replace(ours, name=_IMPORTED)],
                fill=with_import(servers, films.dataset, key_frames=True),
            ),
        ]

    return prepare


def _decode(mount: Mounted, films: Films, needed: int) -> Sample:
    """Decode the windows of all files, which need so many bytes."""
    waits: list[float] = []
    plain: list[float] = []
    list(mount.files.iterdir())

    def decode() -> Reading:
        for name, begin_s in zip(films.names, films.begins_s, strict=True):
            # In turn, because other work on the machine slows both down.
            plain.append(window(films.local, films.clip, begin_s))
            waits.append(window(mount.path(name), films.clip, begin_s))
        return Reading(sum(waits), needed)

    found = measured(mount, decode)
    times = mount_video.waits_ms(waits, plain)
    return found | times | {"window_mib": found["wire_mib"] / FILMS}


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
    yield [replace(c, missing=c.missing or peers.decord_missing()) for c in found]


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
            f"index at its {where}, {FILMS} cold files, distant server",
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
                at_most(f"at most {above_ms} ms above a local file", "above_ms", above_ms),
                at_most("at most 3 × what is needed", "fetched", 3),
                at_most(
                    "with the indexes cached at most 45 ms above a local file",
                    "above_ms",
                    45,
                    _CACHED,
                ),
                at_most(
                    "with the indexes cached at most 1.3 × what is needed", "fetched", 1.3, _CACHED
                ),
                MEMORY,
            ],
        )
        for where, above_ms in (("front", 75), ("end", 80))
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
