"""Latency: the first bytes of files, and reads at random offsets."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import obstore
from obstore.store import S3Store

from benchmarks import RunError, mounts, samples
from benchmarks.goals import MEMORY, at_most, at_most_times
from benchmarks.mount_reads import MIB, Reading, measured
from benchmarks.mounts import OBJECTS, OURS, RCLONE, S3FS, Mounted, cold
from benchmarks.proxy import STALL_S
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.rows.mount_speed import COLD_BYTES
from benchmarks.samples import Content
from benchmarks.servers import Servers
from ego4dfs.demo.sigv4_client import REGION
from ego4dfs.demo.videos import CONSORTIUM

FILES, FILE_BYTES = 16, 32 * MIB
_FIRST_BYTES = 64 << 10
_READS, _READ_BYTES = 60, 256 << 10
_BARE = "one ranged GET"
_MANY_READS, _READERS, _STALLED = 600, 8, 0.01
_STALLS = f"{_STALLED:.0%} of the requests stalled by {STALL_S:.0f} s".replace("%", " %")
_OURS_STALLED = f"{OURS}, {_STALLS}"
_COSTS = (
    Column("peak_mib", "peak MiB", digits=0),
    Column("requests", "requests", digits=0),
    Column("wire_mib", "MiB on the wire", digits=1),
    Column("fetched", "fetched ÷ read"),
)


@contextmanager
def _first(servers: Servers) -> Iterator[Sequence[Contender]]:
    videos = samples.publish(servers, "mount_sixteen", FILES, FILE_BYTES)

    def begins(mount: Mounted) -> Sample:
        waits: list[float] = []
        list(mount.files.iterdir())

        def work() -> Reading:
            waits.extend(_first_bytes(mount, content) for content in videos.contents)
            return Reading(sum(waits), _FIRST_BYTES * len(waits))

        found = measured(mount, work)
        return found | {"wait_ms": median(waits) * 1e3, "first_ms": waits[0] * 1e3}

    def bare() -> Sample:
        store = _store(servers)
        keys = [f"{OBJECTS}/{videos.name}/{Path(c.name).stem}" for c in videos.contents]
        waits = []
        for key in keys:
            begin = time.perf_counter()
            obstore.get_range(store, key, start=0, length=_FIRST_BYTES)
            waits.append(time.perf_counter() - begin)
        return {"wait_ms": median(waits) * 1e3, "first_ms": waits[0] * 1e3}

    yield [*cold(servers, "wan", videos.name, begins), Contender(_BARE, bare)]


@contextmanager
def _random(servers: Servers) -> Iterator[Sequence[Contender]]:
    videos = samples.publish(servers, "mount_one", 1, COLD_BYTES)
    (content,) = videos.contents
    rng = random.Random("places")
    places = [rng.randrange(COLD_BYTES - _READ_BYTES) for _ in range(_READS)]

    def reads(mount: Mounted) -> Sample:
        waits: list[float] = []

        def work() -> Reading:
            with mount.path(content.name).open("rb", buffering=0) as file:
                waits.extend(_one_place(file.fileno(), content, place) for place in places)
            return Reading(sum(waits), _READ_BYTES * len(waits))

        found = measured(mount, work)
        late = quantiles(waits, n=20)[-1]
        return found | {"wait_ms": median(waits) * 1e3, "late_ms": late * 1e3}

    yield cold(servers, "wan", videos.name, reads, rounds={S3FS: 3})  # it fetches all of it


@contextmanager
def _stalls(servers: Servers) -> Iterator[Sequence[Contender]]:
    """Read at random places with many threads, without and with requests that wait for seconds."""
    videos = samples.publish(servers, "mount_one", 1, COLD_BYTES)
    (content,) = videos.contents
    rng = random.Random("many places")
    places = [rng.randrange(COLD_BYTES - _READ_BYTES) for _ in range(_MANY_READS)]

    def reads(mount: Mounted, share: float) -> Sample:
        waits: list[float] = []

        def work() -> Reading:
            with (
                mount.path(content.name).open("rb", buffering=0) as file,
                ThreadPoolExecutor(_READERS) as pool,
            ):
                read = partial(_one_place, file.fileno(), content)
                waits.extend(pool.map(read, places))
            return Reading(sum(waits), _READ_BYTES * len(waits))

        with servers.stalled(share):
            found = measured(mount, work)
        late = quantiles(waits, n=100)
        return found | {
            "wait_ms": median(waits) * 1e3,
            "late_ms": late[-1] * 1e3,
            "slowest_ms": max(waits) * 1e3,
        }

    healthy, stalled = (partial(reads, share=share) for share in (0.0, _STALLED))
    through = partial(cold, servers, "wan", videos.name)
    ours, theirs = mounts.ego4dfs(), mounts.rclone()
    unhedged = mounts.ego4dfs("auto", "--hedge", "off")
    yield [
        *through(healthy, mounters=[ours]),
        *through(stalled, mounters=[replace(ours, name=_OURS_STALLED)]),
        *through(stalled, mounters=[replace(unhedged, name=f"{OURS} --hedge off, {_STALLS}")]),
        *through(healthy, mounters=[theirs]),
        *through(stalled, mounters=[replace(theirs, name=f"{RCLONE}, {_STALLS}")]),
    ]


def _first_bytes(mount: Mounted, content: Content) -> float:
    begin = time.perf_counter()
    with mount.path(content.name).open("rb", buffering=0) as file:
        data = file.read(_FIRST_BYTES)
        seconds = time.perf_counter() - begin
    _check(data, content, 0)
    return seconds


def _one_place(fd: int, content: Content, at: int) -> float:
    begin = time.perf_counter()
    data = os.pread(fd, _READ_BYTES, at)
    seconds = time.perf_counter() - begin
    _check(data, content, at)
    return seconds


def _check(data: bytes, content: Content, at: int) -> None:
    if data != content.part(at, len(data)) or not data:
        raise RunError(f"{content.name} has wrong bytes at {at}")


def _store(servers: Servers) -> S3Store:
    identity = servers.s3.licensee
    certificate = servers.certificate("wan")
    return S3Store(
        CONSORTIUM,
        endpoint=servers.url("wan"),
        access_key_id=identity.access_key,
        secret_access_key=identity.secret_key,
        region=REGION,
        client_options={"root_certificate": certificate.read_bytes()} if certificate else {},
    )


ROWS = (
    Row(
        "mount-first",
        "mount",
        "open a file and read its first 64 KiB, 16 cold files, distant server",
        (
            Column("wait_ms", "median ms", digits=0, spread=True),
            Column("first_ms", "first file ms", digits=0),
            *_COSTS,
        ),
        _first,
        needs_wan=True,
        goals=[
            at_most_times("at most 1.3 × one ranged GET", "wait_ms", 1.3, _BARE),
            at_most_times("at most 0.2 × s3fs-fuse's", "wait_ms", 0.2, S3FS),
            MEMORY,
        ],
    ),
    Row(
        "mount-random",
        "mount",
        "60 reads of 256 KiB at random places of 1 GiB, cold, distant server",
        (
            Column("wait_ms", "p50 ms", digits=1, spread=True),
            Column("late_ms", "p95 ms", digits=0),
            *_COSTS,
        ),
        _random,
        needs_wan=True,
        goals=[
            at_most_times("p50 at most 1.15 × rclone's", "wait_ms", 1.15, RCLONE),
            at_most("at most 8 × as much fetched as read", "fetched", 8),
            MEMORY,
        ],
    ),
    Row(
        "mount-stalls",
        "mount",
        f"{_MANY_READS} reads of 256 KiB at random places of 1 GiB by {_READERS} threads, cold, "
        "distant server",
        (
            Column("late_ms", "p99 ms", digits=0, spread=True),
            Column("slowest_ms", "slowest ms", digits=0),
            Column("wait_ms", "p50 ms", digits=1),
            *_COSTS,
        ),
        _stalls,
        needs_wan=True,
        goals=[
            at_most_times("p99 with stalls at most 3 ×", "late_ms", 3, OURS, _OURS_STALLED),
            at_most_times(
                "bytes with stalls at most 1.02 ×", "wire_mib", 1.02, OURS, _OURS_STALLED
            ),
        ],
    ),
)
