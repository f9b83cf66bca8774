"""Listings: time to the first one, and long listings of many files."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from benchmarks import RunError, measure, mounts, peers, samples
from benchmarks.copiers import copiers
from benchmarks.filled_caches import IMPORTED, with_import
from benchmarks.goals import MEMORY, at_most, at_most_times
from benchmarks.mount_reads import MIB
from benchmarks.mounts import OURS, RCLONE, S3FS, Mounted, cold, mounted
from benchmarks.mounts import tools as mount_tools
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.samples import VERSION, Dataset
from benchmarks.servers import Servers

_ROWS = {10_000: 1.0, 100_000: 3.0}
_MANY, _VERY_MANY, _MOST_BYTES = 10_000, 100_000, 1_000
_IMPORTED = f"{OURS}, {IMPORTED}"
_HEADS = "official ego4d, its HEAD pass alone"
_ROUNDS = {OURS: 3, S3FS: 1, RCLONE: 3}  # 10 s and 20 s of the first two


@contextmanager
def _ready(servers: Servers) -> Iterator[Sequence[Contender]]:
    """Mount, and list the names; their objects need not exist."""
    for count in _ROWS:
        uids = [f"{number:032x}" for number in range(count)]
        samples.publish_manifest(servers, f"mount_rows_{count}", uids)

    def listing(count: int) -> Sample:
        cache_dir = servers.empty("cache")
        first, again = (_time_to_list(servers, count) for _ in range(2))
        shutil.rmtree(cache_dir)
        return first | {"again_s": again["wall_s"]}

    yield [
        Contender(_rows(count), partial(listing, count), peers.ego4dfs().missing) for count in _ROWS
    ]


def _time_to_list(servers: Servers, count: int) -> dict[str, float]:
    begin = time.perf_counter()
    cache_dir = servers.directory / "runs" / "cache"
    with mounted(mounts.ego4dfs(), servers, "wan", f"mount_rows_{count}", cache_dir) as mount:
        ready_s = time.perf_counter() - begin
        with mount.meter() as meter:
            names = os.listdir(mount.files)  # noqa: PTH208 - no objects for 100,000 names
            wall_s = time.perf_counter() - begin
        if sum(name.endswith(".mp4") for name in names) != count:
            raise RunError(f"{len(names)} names of {count}")
    return {"wall_s": wall_s, "ready_s": ready_s, "peak_mib": meter.peak_bytes / MIB}


@contextmanager
def _long(servers: Servers) -> Iterator[Sequence[Contender]]:
    """List names with sizes twice; the official tool requests sizes before it copies."""
    samples.publish_metadata(servers.s3)
    dataset = _published(servers, _MANY)
    official = copiers()[1]

    def heads() -> Sample:
        words = ["--version", VERSION, "--datasets", dataset.name]
        listing = [*official.tool.command, "-o", str(servers.empty("out")), *words]
        command = ["sh", "-c", 'echo n | "$@"', "sh", *listing]  # n: no download
        environment = official.environment(servers, "wan", servers.empty("cache"))
        return measure.sample(servers, "wan", command, environment)

    yield [
        *cold(servers, "wan", dataset.name, partial(list_long, dataset=dataset), rounds=_ROUNDS),
        Contender(_HEADS, heads, official.tool.missing, most_rounds=1),
    ]


@contextmanager
def _longer(servers: Servers) -> Iterator[Sequence[Contender]]:
    """List many more, once: s3fs-fuse and the official tool would take minutes."""
    dataset = _published(servers, _VERY_MANY)
    ours, _, rclone = mount_tools()
    longest = partial(
        cold,
        servers,
        "wan",
        dataset.name,
        partial(list_long, dataset=dataset),
        rounds=dict.fromkeys((OURS, RCLONE, _IMPORTED), 1),
    )
    fill = with_import(servers, dataset.name)
    yield [
        *longest(mounters=[ours, rclone]),
        *longest(mounters=[replace(ours, name=_IMPORTED)], fill=fill),
    ]


def _published(servers: Servers, count: int) -> Dataset:
    sizes = [number % _MOST_BYTES for number in range(count)]
    return samples.publish_files(servers.s3, f"mount_many_{count}", sizes)


def list_long(mount: Mounted, dataset: Dataset) -> Sample:
    """Run `ls -l` twice and then `find`; sizes and names are checked."""
    sizes = [size for size, _ in dataset.files.values()]
    before = mount.settled()
    with mount.meter() as meter:
        first_s, again_s = (_ls(mount, sizes) for _ in range(2))
        found_s = _find(mount, len(sizes))
        cpu_s = meter.cpu_s
    after = mount.settled()
    found = {"wall_s": first_s, "again_s": again_s, "find_s": found_s, "cpu_s": cpu_s}
    if before and after:
        passed = after.since(before)
        found |= {"requests": passed.requests, "heads": passed.heads}
    return found | {"peak_mib": meter.peak_bytes / MIB}


def _find(mount: Mounted, count: int) -> float:
    begin = time.perf_counter()
    command = ["find", str(mount.files), "-name", "*.pt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode or done.stdout.count("\n") != count:
        raise RunError(f"find: {done.stdout.count(chr(10))} files {done.stderr[:200]}")
    return seconds


def _ls(mount: Mounted, wanted: Sequence[int]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(
        ["ls", "-l", str(mount.files)], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    files = [line.split() for line in done.stdout.splitlines()[1:]]
    sizes = [int(cells[4]) for cells in files if cells[-1].endswith(".pt")]
    if done.returncode or (len(sizes), sum(sizes)) != (len(wanted), sum(wanted)):
        raise RunError(f"ls -l: {len(sizes)} files, {sum(sizes)} bytes {done.stderr[:200]}")
    return seconds


def _rows(count: int) -> str:
    return f"ego4dfs mount, {count:,} rows"


_LISTED = (
    Column("wall_s", "first s", spread=True),
    Column("again_s", "again s"),
    Column("find_s", "find s then"),
    Column("cpu_s", "CPU s"),
    Column("peak_mib", "peak MiB", digits=0),
    Column("requests", "requests", digits=0),
    Column("heads", "HEAD requests", digits=0),
)
ROWS = (
    Row(
        "mount-ready",
        "mount",
        "mount and list the names of a dataset, distant server",
        (
            Column("wall_s", "wall s", spread=True),
            Column("ready_s", "mounted s"),
            Column("again_s", "second mount s"),
            Column("peak_mib", "peak MiB", digits=0),
        ),
        _ready,
        needs_wan=True,
        goals=[
            *(
                at_most(f"at most {bound:g} s with {count:,} rows", "wall_s", bound, _rows(count))
                for count, bound in _ROWS.items()
            ),
            at_most("at most 250 MiB with 100,000 rows", "peak_mib", 250, _rows(100_000)),
        ],
    ),
    Row(
        "mount-ls",
        "mount",
        f"ls -l of {_MANY:,} files, distant server",
        _LISTED,
        _long,
        needs_wan=True,
        goals=[
            at_most_times("second at least as fast as s3fs-fuse", "again_s", 1.0, S3FS),
            at_most_times("first at least 3 × as fast as the HEAD pass", "wall_s", 1 / 3, _HEADS),
            MEMORY,
        ],
    ),
    Row(
        "mount-ls-many",
        "mount",
        f"ls -l of {_VERY_MANY:,} files, once, distant server",
        _LISTED,
        _longer,
        needs_wan=True,
        goals=[
            at_most("first at most 5 s after an import", "wall_s", 5, _IMPORTED),
            at_most("no HEAD request after an import", "heads", 0, _IMPORTED),
            MEMORY,
        ],
    ),
)
