"""An epoch of windows by the workers of a DataLoader of torch: by URL, mount and local copies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import RunError, mount_video, mounts, peers, workers
from benchmarks.goals import at_least_times, at_most_times
from benchmarks.measure import Metered, cpu_seconds
from benchmarks.mount_reads import Reading, elapsed_s, measured
from benchmarks.mount_video import WINDOW_S, Films, window_bytes
from benchmarks.mounts import OURS, Mounted, mounted
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.samples import VERSION
from benchmarks.servers import Servers
from ego4dfs.demo.media import Clip

_WORKERS, _WINDOWS = 4, 200
_FILMS = 8
_CLIP = Clip(number=7, duration_s=120, width=160, height=90, bit_rate=1_000_000, key_frame_s=2)
"""Small, so that decoding, which is the same for all, takes the least part of the time."""
_SCRIPTS = Path(__file__).parents[2]
_MANY, _ONE = f"{_WORKERS} workers", "one process"
_URL = "WindowDataset, ego4d://"
_CLIPS = f"PyAV, {OURS}, virtual clips"
_MOUNT = f"PyAV, {OURS}"
_LOCAL = "PyAV, local copies"

Dataset = Mapping[str, Any]
"""The `dataset`, `options` and `windows` of a job."""
Epoch = Callable[[Path], Mapping[str, float]]
"""Reads an epoch with the cache in a directory, and returns what it measured."""


@dataclass(frozen=True)
class _Epochs:
    """Epochs over the same windows, whose tensors must be those of the first epoch."""

    servers: Servers
    films: Films
    begins_s: Sequence[int]
    needed: int
    checksums: dict[str, str] = field(default_factory=dict)

    def windows(self, places: Sequence[str]) -> list[tuple[str, int, int, int]]:
        """Return the windows of the epoch; `places` are those of the videos."""
        each = enumerate(self.begins_s)
        return [(places[n % len(places)], at, at + WINDOW_S, n) for n, at in each]

    def run(self, dataset: Dataset, count: int, cache_dir: Path) -> dict[str, float]:
        """Read one epoch with so many workers. Raises RunError if it has other tensors."""
        found: dict[str, str] = {}
        environment = self.servers.environment("wan", cache_dir)
        path = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(_SCRIPTS)]))
        command = (*peers.torch().command, "-m", "benchmarks.torch_worker")
        jobs = [{**dataset, "workers": count}]
        with workers.started(command, jobs, {**environment, "PYTHONPATH": path}) as running:

            def work() -> Reading:
                answers = running.work()
                found.update(answers[0]["checksums"])
                return Reading(elapsed_s(answers), self.needed)

            sample = measured(Metered(self.servers, "wan", running.pids[0]), work)
        self.checksums.update(self.checksums or found)
        if found != self.checksums or len(found) != len(self.begins_s):
            raise RunError("the tensors are not those of the first epoch")
        return sample | {"samples_s": len(found) / sample["wall_s"]}

    def cold(self, name: str, epoch: Epoch) -> Sample:
        """Read an epoch with an empty cache, which is kept under this name."""
        found = epoch(self.servers.empty(name))
        kept = {key: found[key] for key in ("wire_mib", "fetched", "requests")}
        return kept | {"cold_samples_s": found["samples_s"]}

    def cached(self, name: str, epoch: Epoch) -> Sample:
        """Read an epoch from the cache of this name; if there is none yet, a cold one before."""
        cache_dir = self.servers.directory / "runs" / name
        cold = {} if cache_dir.exists() else self.cold(name, epoch)
        found = epoch(cache_dir)
        kept = {key: found[key] for key in ("samples_s", "cpu_s")}
        return {**cold, **kept, "cached_mib": found["wire_mib"]}


@contextmanager
def _prepare(servers: Servers) -> Iterator[Sequence[Contender]]:
    films = mount_video.publish(servers, "film_torch", _FILMS, _CLIP)
    try:
        yield contenders(servers, films, mount_video.random_begins(films.clip, _WINDOWS))
    finally:
        for place in (servers.directory / "runs").glob("torch-*"):
            shutil.rmtree(place)


def contenders(servers: Servers, films: Films, begins_s: Sequence[int]) -> list[Contender]:
    """Return what reads the windows that begin at these seconds, in turns of the videos."""
    needed = sum(len(window_bytes(films.local, at)) for at in begins_s)
    epochs = _Epochs(servers, films, begins_s, needed)
    kinds: list[tuple[str, Callable[[int, Path], dict[str, float]]]] = [
        (_URL, partial(_by_url, epochs)),
        (_CLIPS, partial(_by_mount, epochs, _virtual_clips)),
        (_MOUNT, partial(_by_mount, epochs, _whole_videos)),
    ]
    found = [Contender(f"{_LOCAL}, {_MANY}", partial(_by_copies, epochs))]
    for number, (name, epoch) in enumerate(kinds):
        many, one = (partial(epoch, count) for count in (_WORKERS, 0))
        found += [
            Contender(f"{name}, {_MANY}", partial(epochs.cached, f"torch-{number}", many)),
            Contender(f"{name}, {_ONE}", partial(epochs.cold, f"torch-{number}-1", one), "", 1),
        ]
    return [replace(contender, missing=peers.torch().missing) for contender in found]


def _by_copies(epochs: _Epochs) -> Sample:
    windows = epochs.windows([str(epochs.films.local)])
    dataset = {"dataset": "PyAV", "options": {}, "windows": windows}
    found = epochs.run(dataset, _WORKERS, epochs.servers.directory / "runs")
    return {key: found[key] for key in ("samples_s", "cpu_s")}


def _by_url(epochs: _Epochs, count: int, cache_dir: Path) -> dict[str, float]:
    options = {"version": VERSION, "datasets": [epochs.films.dataset], "metadata": False}
    windows = epochs.windows(epochs.films.uids)
    dataset = {"dataset": "WindowDataset", "options": options, "windows": windows}
    return epochs.run(dataset, count, cache_dir)


def _by_mount(
    epochs: _Epochs, files: Callable[[_Epochs, Mounted], Dataset], count: int, cache_dir: Path
) -> dict[str, float]:
    """Read an epoch by a new mount, of which the kernel has no pages."""
    servers, dataset = epochs.servers, epochs.films.dataset
    with mounted(mounts.ego4dfs(), servers, "wan", dataset, cache_dir) as mount:
        before = cpu_seconds(mount.pid)
        found = epochs.run(files(epochs, mount), count, cache_dir)
        found["cpu_s"] += cpu_seconds(mount.pid) - before
        return found


def _whole_videos(epochs: _Epochs, mount: Mounted) -> Dataset:
    windows = epochs.windows([str(mount.path(name)) for name in epochs.films.names])
    return {"dataset": "PyAV", "options": {}, "windows": windows}


def _virtual_clips(epochs: _Epochs, mount: Mounted) -> Dataset:
    below = mount.root / ".ego4dfs/windows"
    windows = [
        (str(below / uid / f"{begin_s}-{end_s}.mp4"), begin_s, end_s, number)
        for uid, begin_s, end_s, number in epochs.windows(epochs.films.uids)
    ]
    return {"dataset": "PyAV", "options": {"are_clips": True}, "windows": windows}


ROWS = (
    Row(
        "torch-epoch",
        "torch",
        f"a DataLoader decodes {_WINDOWS} random windows of {WINDOW_S} s to tensors, "
        f"{_FILMS} videos of {_CLIP.duration_s} s and {_CLIP.width}x{_CLIP.height}, "
        "distant server: an epoch with an empty cache, and another one",
        (
            Column("samples_s", "windows/s, cached", digits=1, spread=True, more_is_better=True),
            Column("cpu_s", "CPU s, cached", digits=1),
            Column("cold_samples_s", "windows/s, cold", digits=1),
            Column("wire_mib", "MiB on the wire, cold", digits=1),
            Column("fetched", "fetched ÷ needed, cold"),
            Column("requests", "requests, cold", digits=0),
            Column("cached_mib", "MiB on the wire, cached", digits=2),
        ),
        _prepare,
        needs_wan=True,
        goals=[
            *(
                at_least_times(
                    f"{name}: once cached at least 0.8 × as many windows/s as with local copies",
                    "samples_s",
                    0.8,
                    f"{_LOCAL}, {_MANY}",
                    f"{name}, {_MANY}",
                )
                for name in (_URL, _CLIPS, _MOUNT)
            ),
            *(
                at_most_times(
                    f"{name}: {_MANY} fetch at most 1.02 × what {_ONE} fetches",
                    "wire_mib",
                    1.02,
                    f"{name}, {_ONE}",
                    f"{name}, {_MANY}",
                )
                for name in (_URL, _CLIPS, _MOUNT)
            ),
        ],
    ),
)
