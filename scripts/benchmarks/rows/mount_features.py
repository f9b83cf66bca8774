"""Small files: features, each read once, by four processes like the workers of a DataLoader."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache

from benchmarks import RunError, samples
from benchmarks.goals import MEMORY, best_of
from benchmarks.mount_reads import measured, read
from benchmarks.mounts import OURS, RCLONE, S3FS, Mounted, cold, tools
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.samples import Dataset, file_checksum
from benchmarks.servers import Servers

_FILES, _FILE_BYTES = 5_000, 58_000
_FILES_OF_PEERS = 150  # at some 30 files a second; what one file costs does not depend on it
_PROCESSES = 4
_ROUNDS = dict.fromkeys((OURS, S3FS, RCLONE), 2)  # half a minute each


@cache
def _features(servers: Servers) -> Dataset:
    return samples.publish_files(servers.s3, "mount_features", [_FILE_BYTES] * _FILES)


def _once(*, shuffled: bool) -> Callable[[Servers], AbstractContextManager[Sequence[Contender]]]:
    @contextmanager
    def prepare(servers: Servers) -> Iterator[Sequence[Contender]]:
        dataset = _features(servers)
        names = sorted(dataset.files)
        if shuffled:
            random.Random("order").shuffle(names)

        def work(mount: Mounted, count: int) -> Sample:
            paths = [mount.path(name) for name in names[:count]]
            jobs = [paths[number::_PROCESSES] for number in range(_PROCESSES)]
            found = measured(mount, lambda: read(jobs))
            for path in paths:
                if (path.stat().st_size, file_checksum(path)) != dataset.files[path.name]:
                    raise RunError(f"{path.name} is wrong")
            rates = {
                "files_s": count / found["wall_s"],
                "cpu_ms": found["cpu_s"] / count * 1e3,
                "requests_file": found["requests"] / count,
            }
            return found | rates

        ours, *others = tools()
        yield [
            *cold(
                servers,
                "wan",
                dataset.name,
                lambda m: work(m, _FILES),
                mounters=[ours],
                rounds=_ROUNDS,
            ),
            *cold(
                servers,
                "wan",
                dataset.name,
                lambda m: work(m, _FILES_OF_PEERS),
                mounters=others,
                rounds=_ROUNDS,
            ),
        ]

    return prepare


_COLUMNS = (
    Column("files_s", "files/s", digits=0, spread=True, more_is_better=True),
    Column("cpu_ms", "CPU ms/file", digits=1),
    Column("peak_mib", "peak MiB", digits=0),
    Column("requests_file", "requests/file"),
    Column("fetched", "fetched ÷ read"),
)
_TITLE = (
    f"4 processes read {_FILES:,} features of 58 kB once (peers: {_FILES_OF_PEERS} of them)"
    ", {} order, cold, distant server"
)
ROWS = tuple(
    Row(
        f"mount-features-{name}",
        "mount",
        _TITLE.format(name),
        _COLUMNS,
        _once(shuffled=name == "random"),
        needs_wan=True,
        goals=[
            best_of(f"at least {times} × as fast as the best peer", "files_s", times, S3FS, RCLONE),
            MEMORY,
        ],
    )
    for name, times in (("random", 3), ("listing", 5))
)
