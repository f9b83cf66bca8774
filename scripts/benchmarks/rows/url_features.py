"""Small files by URL: features, each read once, by one process in a few calls."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import RunError, samples, workers
from benchmarks.goals import best_of, times_as_good
from benchmarks.measure import Metered
from benchmarks.mount_reads import Reading, elapsed_s, measured, read
from benchmarks.mounts import OURS, Mounted, cold, tools
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.samples import VERSION, Dataset
from benchmarks.servers import Servers

_FILES, _FILE_BYTES = 5_000, 58_000
_FILES_OF_SLOW_TOOLS = 150
_PROCESSES = 4
_COMMAND = (sys.executable, "-m", "benchmarks.url_worker")
_SCRIPTS = Path(__file__).parents[2]
READ_MANY = "fs.read_many"
CAT_RANGES = "fs.cat_ranges"
_S3FS, _OBSTORE = "s3fs, cat_ranges", "obstore's fsspec store, cat_ranges"
_BLOCKCACHE = "blockcache:: over s3fs, open"
MOUNT = f"{OURS}, {_PROCESSES} processes"


@contextmanager
def prepare(servers: Servers) -> Iterator[Sequence[Contender]]:
    """Publish features, and give the tools that read them in one random order."""
    dataset = samples.publish_files(servers.s3, "url_features", [_FILE_BYTES] * _FILES)
    yield contenders(servers, dataset, _FILES_OF_SLOW_TOOLS)


def contenders(servers: Servers, dataset: Dataset, slow_files: int) -> list[Contender]:
    """Return the tools, of which the slow ones read `slow_files` of the files."""
    names = sorted(dataset.files)
    random.Random("order").shuffle(names)
    options = {"version": VERSION, "datasets": [dataset.name], "metadata": False}
    tree, bucket = f"v2/{dataset.name}", dataset.prefix
    one_size = {"size": max(size for size, _ in dataset.files.values())}
    run = partial(_run, servers, dataset)
    few = names[:slow_files]
    cache = {"directory": str(servers.directory / "runs/cache/blockcache")}
    ours = tools()[0]
    [mount] = cold(servers, "wan", dataset.name, partial(_through, names, dataset), mounters=[ours])
    return [
        Contender(READ_MANY, partial(run, "read_many", options, tree, names)),
        Contender(CAT_RANGES, partial(run, "cat_ranges", options | one_size, tree, names)),
        Contender(MOUNT, mount.run, mount.missing),
        Contender(_S3FS, partial(run, "s3fs", one_size, bucket, names)),
        Contender(_BLOCKCACHE, partial(run, "blockcache", cache, bucket, few), "", 1),
        Contender(_OBSTORE, partial(run, "obstore", one_size, bucket, names)),
    ]


def _run(
    servers: Servers,
    dataset: Dataset,
    reader: str,
    options: Mapping[str, object],
    directory: str,
    names: Sequence[str],
) -> Sample:
    environment = servers.environment("wan", servers.empty("cache"), may_list=reader != "read_many")
    path = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(_SCRIPTS)]))
    paths = [f"{directory.strip('/')}/{name}" for name in names]
    job = {"reader": reader, "options": options, "paths": paths}
    with workers.started(_COMMAND, [job], {**environment, "PYTHONPATH": path}) as running:
        answers = []

        def work() -> Reading:
            answers.extend(running.work())
            return Reading(elapsed_s(answers), answers[0]["bytes"])

        found = measured(Metered(servers, "wan", running.pids[0]), work)
    servers.empty("cache")
    checksums = {p.rpartition("/")[2]: c for p, c in answers[0]["checksums"].items()}
    for name in names:
        if checksums.get(name) != dataset.files[name][1]:
            raise RunError(f"{name} is wrong")
    return _of_files(found, len(names))


def _through(names: Sequence[str], dataset: Dataset, mount: Mounted) -> Sample:
    paths = [mount.path(name) for name in names]
    jobs = [paths[number::_PROCESSES] for number in range(_PROCESSES)]
    found = measured(mount, lambda: read(jobs))
    for path in paths:
        if (path.stat().st_size, samples.file_checksum(path)) != dataset.files[path.name]:
            raise RunError(f"{path.name} is wrong")
    return _of_files(found, len(names))


def _of_files(found: Mapping[str, float], count: int) -> Sample:
    return {
        **found,
        "files_s": count / found["wall_s"],
        "cpu_ms": found["cpu_s"] / count * 1e3,
        "requests_file": found["requests"] / count,
    }


ROWS = (
    Row(
        "url-features",
        "url",
        f"{_FILES:,} features of 58 kB read once in random order by one process "
        f"(blockcache: {_FILES_OF_SLOW_TOOLS} of them), cold, distant server",
        (
            Column("files_s", "files/s", digits=0, spread=True, more_is_better=True),
            Column("cpu_ms", "CPU ms/file", digits=1),
            Column("peak_mib", "peak MiB", digits=0),
            Column("requests_file", "requests/file"),
            Column("fetched", "fetched ÷ read"),
        ),
        prepare,
        needs_wan=True,
        goals=[
            times_as_good(MOUNT, 3),
            best_of("at least 2 × as fast as s3fs", "files_s", 2, _S3FS, _BLOCKCACHE),
            times_as_good(_OBSTORE),
        ],
    ),
)
