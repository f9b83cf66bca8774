"""Concurrent readers: of different files, and of the same file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks import samples
from benchmarks.goals import MEMORY, at_least, at_least_times, at_most
from benchmarks.mount_reads import MIB, RATE, Reading, measured, read
from benchmarks.mounts import RCLONE, S3FS, Mounted, cold, side_by_side, tools
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.rows.mount_latency import FILE_BYTES, FILES
from benchmarks.rows.mount_speed import COLD_BYTES
from benchmarks.samples import Videos
from benchmarks.servers import Servers

_SAME_BYTES = 256 * MIB
_ONE = "ego4dfs mount, 1 process"
_SLOW = {S3FS: 3, RCLONE: 2}


def read_different(
    mount: Mounted, videos: Videos, processes: int, *, evict: bool = False
) -> Sample:
    """Read all files, divided among this many processes."""
    paths = [mount.path(content.name) for content in videos.contents]
    jobs = [paths[number::processes] for number in range(processes)]
    found = measured(mount, lambda: read(jobs, evict=evict))
    for content in videos.contents:
        content.check(mount.path(content.name))
    return found


@contextmanager
def _cold(servers: Servers) -> Iterator[Sequence[Contender]]:
    one = samples.publish(servers, "mount_one", 1, COLD_BYTES)
    videos = samples.publish(servers, "mount_sixteen", FILES, FILE_BYTES)
    all_tools = partial(read_different, videos=videos, processes=FILES)
    contenders = cold(servers, "wan", videos.name, all_tools, rounds=_SLOW)
    half = partial(read_different, videos=videos, processes=8)
    alone = partial(read_different, videos=one, processes=1)
    (eight,) = cold(servers, "wan", videos.name, half, mounters=tools()[:1])
    (single,) = cold(servers, "wan", one.name, alone, mounters=tools()[:1])
    yield [
        *contenders,
        Contender("ego4dfs mount, 8 processes", eight.run, eight.missing),
        Contender(_ONE, single.run, single.missing),
    ]


@contextmanager
def _warm(servers: Servers) -> Iterator[Sequence[Contender]]:
    videos = samples.publish(servers, "mount_sixteen", FILES, FILE_BYTES)
    contenders = []
    with ExitStack() as stack:
        for tool, mount in side_by_side(stack, servers, tools(), videos.name):
            if mount is None:
                contenders.append(Contender(tool.name, dict, tool.tool.missing))
                continue
            read_different(mount, videos, 1)
            run = partial(read_different, mount, videos, evict=True)
            contenders.append(Contender(tool.name, partial(run, FILES)))
            if not tool.lists:
                contenders.append(Contender("ego4dfs mount, 8 processes", partial(run, 8)))
                contenders.append(Contender(_ONE, partial(run, 1)))
        yield contenders


@contextmanager
def _same(servers: Servers) -> Iterator[Sequence[Contender]]:
    videos = samples.publish(servers, "mount_same", 1, _SAME_BYTES)
    (content,) = videos.contents

    def work(mount: Mounted) -> Sample:
        path = mount.path(content.name)

        def once(processes: int, *, evict: bool = False) -> Reading:
            return read([[path]] * processes, evict=evict)

        found = measured(mount, lambda: once(FILES))
        again, alone = once(FILES), once(1, evict=True)
        content.check(path)
        rates = {key: r.size / r.wall_s / MIB for key, r in (("again", again), ("alone", alone))}
        if "wire_mib" in found:
            found["copies"] = found["wire_mib"] * MIB / _SAME_BYTES
        return found | rates | {"times": rates["again"] / rates["alone"]}

    rounds = {S3FS: 2, RCLONE: 1}
    yield cold(servers, "wan", videos.name, work, rounds=rounds)


ROWS = (
    Row(
        "mount-many-cold",
        "mount",
        "16 processes read 16 files of 32 MiB (1 process: one of 1 GiB), cold, distant server",
        RATE,
        _cold,
        needs_wan=True,
        goals=[at_least_times("at least 0.9 × that of one process", "rate", 0.9, _ONE), MEMORY],
    ),
    Row(
        "mount-many-warm",
        "mount",
        "16 processes read 16 files of 32 MiB from the tool's cache, page cache dropped",
        RATE,
        _warm,
        goals=[at_least_times("at least 0.9 × that of one process", "rate", 0.9, _ONE), MEMORY],
    ),
    Row(
        "mount-same",
        "mount",
        "16 processes read the same 256 MiB, cold, distant server; then again",
        (
            Column("rate", "MiB/s", digits=0, spread=True, more_is_better=True),
            Column("again", "again MiB/s", digits=0),
            Column("alone", "1 process from the cache MiB/s", digits=0),
            Column("times", "again ÷ 1 process"),
            Column("copies", "fetched ÷ size"),
            Column("cpu_s_gib", "CPU s/GiB"),
            Column("peak_mib", "peak MiB", digits=0),
            Column("requests", "requests", digits=0),
        ),
        _same,
        needs_wan=True,
        goals=[
            at_most("at most 1.02 × the size fetched", "copies", 1.02),
            at_least("again at least 2 × one process from the cache", "times", 2),
            MEMORY,
        ],
    ),
)
