"""The mounts that are compared: how each tool is mounted, metered and unmounted."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import RunError, peers
from benchmarks.filled_caches import Fill
from benchmarks.measure import Metered
from benchmarks.peers import Tool
from benchmarks.row import Contender, Sample
from benchmarks.samples import VERSION
from benchmarks.servers import Servers, mountpoints, unmount
from ego4dfs.demo.child_process import end, spawn
from ego4dfs.demo.videos import CONSORTIUM
from ego4dfs.metrics import NOT_ASKED

OURS, S3FS, RCLONE = "ego4dfs mount", "s3fs-fuse", "rclone mount"
BINDFS = "bindfs of a local directory"
OBJECTS = f"public/{VERSION}/objects"
_READY_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 5.0
_LOOK_S = 0.002
_SHOWN_CHARS = 400


@dataclass(frozen=True, slots=True)
class Place:
    """The values in a command line: dataset, mountpoint, cache directory and endpoint."""

    dataset: str
    mountpoint: Path
    cache: Path
    endpoint: str


@dataclass(frozen=True, slots=True)
class Mounter:
    """A tool that mounts in the foreground; `folder` is where the files are below the mountpoint.

    `lists` tools request listings from S3, which licensees of Ego4D may not. They show objects
    under the last part of their keys, without the extension that ego4dfs gives to videos.
    """

    name: str
    tool: Tool
    arguments: Callable[[Place], list[str]]
    folder: Callable[[Place], Path]
    lists: bool = True

    def environment(self, servers: Servers, shape: str, cache_dir: Path) -> Mapping[str, str]:
        """Return the variables of the mount process."""
        return servers.environment(shape, cache_dir, may_list=self.lists)


class Mounted(Metered):
    """A running mount: `root` is its mountpoint, `files` the directory of the dataset in it."""

    def __init__(self, mounter: Mounter, servers: Servers, shape: str, place: Place) -> None:
        super().__init__(servers, shape)
        self._mounter = mounter
        self.root = place.mountpoint
        self.files = mounter.folder(place)

    def path(self, name: str) -> Path:
        """Return where a file of the dataset is, by its local name."""
        return self.files / (name.removesuffix(".mp4") if self._mounter.lists else name)


def ego4dfs(libfuse: str = "auto", *more: str) -> Mounter:
    """Return the mount of this checkout, or of that on PYTHONPATH."""
    name = "ego4dfs mount" + ("" if libfuse == "auto" else f", libfuse {libfuse}")

    def arguments(place: Place) -> list[str]:
        words = ["mount", str(place.mountpoint), "-f", "--version", VERSION]
        return [*words, "--datasets", place.dataset, "--libfuse", libfuse, *more]

    def folder(place: Place) -> Path:
        return place.mountpoint / VERSION.partition("_")[0] / place.dataset

    return Mounter(name, peers.ego4dfs(), arguments, folder, lists=False)


def s3fs() -> Mounter:
    """Return s3fs-fuse with 16 streams and a cache."""

    def arguments(place: Place) -> list[str]:
        options = [
            "ro",
            f"url={place.endpoint}",
            "use_path_request_style",
            "endpoint=us-east-1",
            f"use_cache={place.cache}",
            "parallel_count=16",
            "multipart_size=10",
        ]
        words = [CONSORTIUM, str(place.mountpoint), "-f"]
        return [*words, *(word for option in options for word in ("-o", option))]

    return Mounter(
        "s3fs-fuse", peers.s3fs(), arguments, lambda p: p.mountpoint / OBJECTS / p.dataset
    )


def rclone() -> Mounter:
    """Return rclone with its full cache; chunks of 8 MiB suit it best over all rows."""

    def arguments(place: Place) -> list[str]:
        words = ["mount", f":s3:{CONSORTIUM}/{OBJECTS}/{place.dataset}", str(place.mountpoint)]
        words += ["--vfs-cache-mode", "full", "--cache-dir", str(place.cache), "--read-only"]
        # Without the last one it requests each file's modification time, one after the other.
        return [*words, "--vfs-read-chunk-size", "8M", "--use-server-modtime"]

    return Mounter("rclone mount", peers.rclone(), arguments, lambda p: p.mountpoint)


def bindfs(origin: Path) -> Mounter:
    """Return a mount of a local directory, whose pages the kernel may keep."""

    def arguments(place: Place) -> list[str]:
        return ["-f", "-o", "ro,kernel_cache", str(origin), str(place.mountpoint)]

    return Mounter(BINDFS, peers.bindfs(), arguments, lambda p: p.mountpoint, lists=False)


@contextmanager
def mounted(
    mounter: Mounter, servers: Servers, shape: str, dataset: str, cache_dir: Path
) -> Iterator[Mounted]:
    """Mount a dataset; on exit it is always removed.

    Raises RunError if it is not mounted in time, or cannot be unmounted.
    """
    name = "".join(letter if letter.isalnum() else "-" for letter in mounter.name)
    mountpoint = servers.directory / "mounts" / f"{name}-{time.monotonic_ns()}"
    mountpoint.mkdir(parents=True)
    place = Place(dataset, mountpoint, cache_dir, servers.url(shape))
    log = servers.directory / f"{mountpoint.name}.log"
    running = Mounted(mounter, servers, shape, place)
    child = spawn(
        [*mounter.tool.command, *mounter.arguments(place)],
        directory=servers.directory,
        environment=mounter.environment(servers, shape, cache_dir),
        log=log,
    )
    try:
        running.pid = child.pid
        _wait(child, mountpoint, log)
        if not mounter.lists:
            _await_probe(mountpoint)
        yield running
    finally:
        _remove_mount(child, mountpoint)


def side_by_side(
    stack: ExitStack, servers: Servers, tools: Iterable[Mounter], dataset: str
) -> Iterator[tuple[Mounter, Mounted | None]]:
    """Mount tools near the server until the stack is closed; yield None for a missing tool.

    Each has its own cache, except that all mounts of ego4dfs share one.
    """
    for number, tool in enumerate(tools):
        if tool.tool.missing:
            yield tool, None
            continue
        place = "side-ours" if tool.tool is peers.ego4dfs() else f"side-{number}"
        cache_dir = servers.directory / "runs" / place
        if not cache_dir.exists():
            servers.empty(place)
            stack.callback(shutil.rmtree, cache_dir, ignore_errors=True)
        yield tool, stack.enter_context(mounted(tool, servers, "lan", dataset, cache_dir))


def is_mounted(mountpoint: Path) -> bool:
    """Return whether it is in the kernel's mount table, without a call to the filesystem."""
    return mountpoint in mountpoints(mountpoint)


def _wait(child: subprocess.Popen[bytes], mountpoint: Path, log: Path) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not is_mounted(mountpoint):
        if child.poll() is not None or time.monotonic() > deadline:
            output = log.read_text(errors="replace").strip()[-_SHOWN_CHARS:]
            raise RunError(f"did not mount: {output}")
        time.sleep(_LOOK_S)


def _await_probe(mountpoint: Path) -> None:
    """Wait until ego4dfs knows whether the store answers: its HEAD request is no part of a row."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    status = mountpoint / ".ego4dfs/status.json"
    while status.exists() and json.loads(status.read_bytes())["store"] == NOT_ASKED:
        if time.monotonic() > deadline:
            raise RunError("it has not asked the store")
        time.sleep(_LOOK_S)


def _remove_mount(child: subprocess.Popen[bytes], mountpoint: Path) -> None:
    deadline = time.monotonic() + _END_TIMEOUT_S
    while is_mounted(mountpoint) and time.monotonic() < deadline:
        if unmount(mountpoint):
            break
        time.sleep(0.1)  # busy: a reader is about to end
    if is_mounted(mountpoint):
        unmount(mountpoint, lazy=True)
    with suppress(subprocess.TimeoutExpired):
        child.wait(timeout=_END_TIMEOUT_S)
    end(child, timeout_s=2.0)
    if is_mounted(mountpoint):
        raise RunError(f"{mountpoint} is still mounted; fusermount3 -uz {mountpoint} ends it")
    with suppress(OSError):
        mountpoint.rmdir()


def tools() -> tuple[Mounter, ...]:
    """Return the mounts that most rows compare, that of ego4dfs first."""
    return (ego4dfs(), s3fs(), rclone())


def cold(
    servers: Servers,
    shape: str,
    dataset: str,
    work: Callable[[Mounted], Sample],
    *,
    mounters: Iterable[Mounter] | None = None,
    rounds: Mapping[str, int] | None = None,
    fill: Fill | None = None,
) -> list[Contender]:
    """Return a contender for each tool, which mounts the dataset cold, works, and unmounts.

    `rounds` limits the rounds of slow tools, by their names. `fill` fills the cache before.
    """

    def run(mounter: Mounter) -> Sample:
        cache_dir = servers.empty("cache")
        try:
            if fill is not None:
                fill(cache_dir)
            with mounted(mounter, servers, shape, dataset, cache_dir) as mount:
                return work(mount)
        finally:
            servers.empty("cache")

    return [
        Contender(tool.name, partial(run, tool), tool.tool.missing, (rounds or {}).get(tool.name))
        for tool in (tools() if mounters is None else mounters)
    ]
