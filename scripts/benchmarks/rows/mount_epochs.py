"""Two epochs over more data than the cache holds: the hit rate by eviction policy."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

from benchmarks import mounts, peers, samples
from benchmarks.goals import MEMORY, at_least
from benchmarks.mount_reads import MIB, measured, read
from benchmarks.mounts import Mounted, mounted
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.servers import Servers

_FILES, _FILE_BYTES = 128, 2 * MIB
_CACHE_MIB = 128
_PROCESSES = 4
_ROUNDS = 2  # what is counted hardly differs from run to run
_DATA_MIB = _FILES * _FILE_BYTES // MIB
_SHARE = _CACHE_MIB / _DATA_MIB
_KEEP = "ego4dfs mount --eviction none"


@contextmanager
def _epochs(servers: Servers) -> Iterator[Sequence[Contender]]:
    """Read all files twice, each time in another order, without the kernel's pages."""
    videos = samples.publish(servers, "mount_epochs", _FILES, _FILE_BYTES)

    def epoch(mount: Mounted, number: int) -> dict[str, float]:
        paths = [mount.path(content.name) for content in videos.contents]
        random.Random(number).shuffle(paths)
        jobs = [paths[start::_PROCESSES] for start in range(_PROCESSES)]
        return measured(mount, lambda: read(jobs, evict=True))

    def run(*more: str) -> Sample:
        tool = mounts.ego4dfs("auto", "--cache-size", f"{_CACHE_MIB}MiB", *more)
        cache_dir = servers.empty("cache")
        with mounted(tool, servers, "wan", videos.name, cache_dir) as mount:
            first, second = (epoch(mount, number) for number in range(2))
            for content in videos.contents:
                content.check(mount.path(content.name))
        servers.empty("cache")
        hits = {"hits": 1 - second["wire_mib"] / _DATA_MIB, "first_rate": first["rate"]}
        return second | hits

    policy = "" if _has_policies() else "missing: this checkout has no --eviction"
    yield [
        Contender(_KEEP, partial(run, "--eviction", "none"), policy, _ROUNDS),
        Contender("ego4dfs mount", run, peers.ego4dfs().missing, _ROUNDS),
    ]


@cache
def _has_policies() -> bool:
    command = [*peers.ego4dfs().command, "mount", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    return "--eviction" in done.stdout


ROWS = (
    Row(
        "mount-epochs",
        "mount",
        f"second epoch over {_DATA_MIB} MiB in random order with a cache of {_CACHE_MIB} MiB, "
        f"{_PROCESSES} processes, distant server",
        (
            Column("hits", "hit rate", spread=True, more_is_better=True),
            Column("rate", "MiB/s", digits=0),
            Column("first_rate", "first epoch MiB/s", digits=0),
            Column("peak_mib", "peak MiB", digits=0),
            Column("requests", "requests", digits=0),
        ),
        _epochs,
        needs_wan=True,
        goals=[
            at_least(
                "hit rate at least 0.95 × the cache's share of the data",
                "hits",
                0.95 * _SHARE,
                _KEEP,
            ),
            MEMORY,
        ],
    ),
)
