"""Random windows of videos that are larger than the cache, decoded by eight processes at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from benchmarks import mount_video, mounts, window_reads
from benchmarks.filled_caches import with_indexes
from benchmarks.goals import at_least_times
from benchmarks.measure import Metered
from benchmarks.mount_reads import Reading, elapsed_s, measured
from benchmarks.mount_video import WINDOW_S, window_bytes
from benchmarks.mounts import OURS, Mounted, cold
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.rows.windows import FILMS
from benchmarks.servers import Servers
from benchmarks.window_reads import Job, Window, job

_PROCESSES = 8
_WINDOWS = 128
_CACHE_MIB = 128
_LOCAL = "PyAV, local copies in the page cache"
_FRAMES = "Ego4D.frames"
_MOUNT = f"PyAV, {OURS}"


@contextmanager
def _epoch(servers: Servers) -> Iterator[Sequence[Contender]]:
    films = mount_video.publish(servers, "film_front", FILMS, mount_video.LONG)
    begins = mount_video.random_begins(films.clip, _WINDOWS)
    needed = sum(len(window_bytes(films.local, at)) for at in begins)
    read = partial(_read, servers, needed=needed)
    paths_job = partial(job, films, "PyAV")

    def local() -> Sample:
        return read(paths_job, [(str(films.local), at, 0) for at in begins])

    def frames() -> Sample:
        fill(servers.empty("cache"))
        uids = [films.uids[number % FILMS] for number in range(_WINDOWS)]
        windows = [(uid, at, 0) for uid, at in zip(uids, begins, strict=True)]
        found = read(
            partial(
                job,
                films,
                _FRAMES,
                first_uid=films.uids[0],
                datasets=[films.dataset],
                cache_size=limit,
            ),
            windows,
        )
        servers.empty("cache")
        return found

    def through(mount: Mounted) -> Sample:
        paths = [str(mount.path(films.names[number % FILMS])) for number in range(_WINDOWS)]
        return read(paths_job, [(path, at, 0) for path, at in zip(paths, begins, strict=True)])

    limit = f"{_CACHE_MIB}MiB"
    fill = with_indexes(servers, films.dataset)
    ours = replace(mounts.ego4dfs("auto", "--cache-size", limit), name=_MOUNT)
    peers = [replace(peer, name=f"PyAV, {peer.name}") for peer in mounts.tools()[1:]]
    once = {peer.name: 1 for peer in peers}
    yield [
        Contender(_FRAMES, frames),
        Contender(_LOCAL, local),
        *cold(servers, "wan", films.dataset, through, mounters=[ours], fill=fill),
        *cold(servers, "wan", films.dataset, through, mounters=peers, rounds=once),
    ]


def _read(
    servers: Servers,
    job_of: Callable[[Sequence[Window]], Job],
    windows: Sequence[Window],
    *,
    needed: int,
) -> Sample:
    """Divide the windows among the processes, which decode them to arrays of colours."""
    jobs = [job_of(windows[number::_PROCESSES]) for number in range(_PROCESSES)]
    with window_reads.started(servers, jobs) as running:
        found = measured(
            Metered(servers, "wan", os.getpid()),
            lambda: Reading(elapsed_s(running.work()), needed),
        )
    return found | {"samples_s": len(windows) / found["wall_s"]}


ROWS = (
    Row(
        "windows-epoch",
        "window",
        f"{_PROCESSES} processes decode {_WINDOWS} random windows of {WINDOW_S} s to arrays, "
        f"indexes cached, {FILMS} videos of 209 MB, cache of {_CACHE_MIB} MiB "
        "(peers: nothing cached, no limit), distant server",
        (
            Column("samples_s", "windows/s", digits=1, spread=True, more_is_better=True),
            Column("wall_s", "wall s", digits=1),
            Column("wire_mib", "MiB on the wire", digits=0),
            Column("fetched", "fetched ÷ needed"),
            Column("requests", "requests", digits=0),
        ),
        _epoch,
        needs_wan=True,
        goals=[
            *(
                at_least_times(
                    f"{name} at least 0.8 × as many windows/s as with local copies",
                    "samples_s",
                    0.8,
                    _LOCAL,
                    name,
                )
                for name in (_FRAMES, _MOUNT)
            ),
        ],
    ),
)
