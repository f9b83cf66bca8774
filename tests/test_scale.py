"""Promises with numbers: fetched bytes, requests, and the limit of the cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ego4dfs.demo.server import S3Server
from kit.cli import run_cli
from kit.data import MIB, Seeded, seeded
from kit.mounts import Mounts, frozen, status
from kit.server import SHARING, Release, environment, new_version

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SIZES = {"large.mp4": 256 * MIB} | {f"{number}.mp4": 128 * MIB for number in range(6)}
TESTS = Path(__file__).parent
BOUND = 128 * MIB
MANY = 4_000


@dataclass(frozen=True)
class Big:
    """1 GiB on a server that may be stopped."""

    server: S3Server
    release: Release
    arguments: tuple[str, ...]


@pytest.fixture(scope="module")
def big() -> Iterator[Big]:
    with TemporaryDirectory(prefix="big-") as own, S3Server(own) as server:
        server.create_bucket(SHARING)
        release = Release(server, "v1")
        for name, size in SIZES.items():
            release.dataset("full_scale", {name: seeded(name, size)})
        rows = [f"{n.partition('.')[0]},file,{release.url(f'full_scale/{n}')}" for n in SIZES]
        release.manifest("full_scale", "\n".join(["video_uid,type,s3_path", *rows, ""]))
        yield Big(server, release, ("--version", "v1", "--datasets", "full_scale"))


@pytest.fixture
def env(big, tmp_path, transport) -> dict[str, str]:
    """A licensee of that server with an empty cache of its own."""
    return environment(big.server, tmp_path / "home", transport)


@pytest.fixture
def mounts(tmp_path, libfuse) -> Iterator[Mounts]:
    made = Mounts(tmp_path, libfuse)
    yield made
    made.clear()


def fetched(root: Path) -> int:
    """Return the bytes fetched so far, after read-ahead has ended: no request runs or follows."""
    before: tuple[int, int] | None = None
    while (now := sent_and_ended(root)) != before or now[0] > now[1]:
        before = now
        time.sleep(0.5)
    return status(root)["bytes_fetched"]


def sent_and_ended(root: Path) -> tuple[int, int]:
    """Return how many requests a mount has sent, and how many of them have ended."""
    found = status(root)
    ended = sum(count for results in found["results"].values() for count in results.values())
    return sum(found["requests"].values()), ended


def look(root: Path, name: str, offset: int, size: int) -> int:
    """Open a file, read its beginning and then a window of it; return the fetched bytes."""
    before = fetched(root)
    fd = os.open(root / "v1/full_scale" / name, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(fd, 64 << 10, 0) == Seeded(name).part(0, 64 << 10)
        pieces = range(0, size, 128 << 10)
        window = b"".join(os.pread(fd, 128 << 10, offset + at) for at in pieces)
        assert window == Seeded(name).part(offset, size)
    finally:
        os.close(fd)
    return fetched(root) - before


def test_a_window_of_a_large_file_fetches_little_and_only_once(big, env, mounts):
    window = ("large.mp4", 128 * MIB - 12345, 4 * MIB)
    root = mounts(*big.arguments, env=env)
    first = look(root, *window)
    print("bytes fetched by the first look:", first)
    assert 4 * MIB < first <= 16 * MIB
    assert look(root, *window) == 0
    mounts.unmount(root)
    mounts.again(root, *big.arguments, env=env)
    assert look(root, *window) == 0
    mounts.unmount(root)
    big.server.stop()
    try:
        mounts.again(root, *big.arguments, env=env)
        assert look(root, *window) == 0
        mounts.unmount(root)
    finally:
        big.server.start()


def test_sixteen_processes_fetch_a_file_once(big, env, mounts):
    root = mounts(*big.arguments, env=env)
    path = root / "v1/full_scale/0.mp4"
    pipe = {"stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        readers = [
            stack.enter_context(subprocess.Popen(["md5sum", path], **pipe)) for _ in range(16)
        ]
        sums = [reader.communicate()[0].split()[0] for reader in readers]
    right = hashlib.md5(seeded("0.mp4", SIZES["0.mp4"])).hexdigest()  # noqa: S324
    assert sums == [right] * 16
    print("bytes fetched by sixteen processes:", fetched(root))
    assert fetched(root) <= 1.05 * SIZES["0.mp4"]


def usage(directory: Path) -> int:
    """Return the result of `du` for a directory whose files change."""
    done = subprocess.run(
        ["du", "-s", "-B1", directory], capture_output=True, text=True, check=False
    )
    return int(done.stdout.split()[0])


def watched(readers: Sequence[subprocess.Popen], root: Path, env) -> tuple[list[int], list[int]]:
    """Return what `du` and `ego4dfs cache info` said until the readers had ended.

    The mount is stopped during `du`, which would otherwise count a block that is evicted meanwhile
    and those that are written in its place.
    """
    cache = Path(env["EGO4DFS_CACHE_DIR"])
    used: list[int] = []
    reported: list[int] = []

    def report() -> None:
        info = json.loads(run_cli("cache", "info", "--json", env=env).stdout)
        assert info["limit_bytes"] == BOUND
        reported.append(info["used_bytes"])

    with ThreadPoolExecutor(1) as pool:  # on a busy machine a command takes as long as the readers
        reporting = pool.submit(report)
        while any(reader.poll() is None for reader in readers):
            with frozen(root):
                used.append(usage(cache))
            time.sleep(0.1)
            if reporting.done():
                reporting.result()
                reporting = pool.submit(report)
        reporting.result()
    return used, reported


def test_the_cache_keeps_its_limit_while_eight_processes_read_all(big, env, mounts):
    env = {**env, "EGO4DFS_CACHE_SIZE": str(BOUND)}
    root = mounts(*big.arguments, env=env)
    paths = [str(root / "v1/full_scale" / name) for name in SIZES]
    shares = [paths[:1], paths[1:3], paths[3:5], paths[5:]]
    commands = [["sequential", str(seed), *share] for seed, share in enumerate(shares)]
    commands += [["random", str(seed), *paths] for seed in range(4)]
    started = [
        subprocess.Popen([sys.executable, "-m", "kit.reader_process", *words], cwd=TESTS)
        for words in commands
    ]
    try:
        used, reported = watched(started, root, env)
    finally:
        for reader in started:
            reader.kill()
            reader.wait()
    assert [reader.returncode for reader in started] == [0] * 8
    found = status(root)
    print(
        "largest du, largest cache info, evictions:", max(used), max(reported), found["evictions"]
    )
    assert found["evictions"] > 1000
    assert len(used) >= 3
    assert max(used) <= 1.1 * BOUND
    assert max(reported) <= 1.1 * BOUND
    assert found["cache_bytes"] <= 1.1 * BOUND


def test_a_long_listing_of_thousands_of_objects_sends_one_head_for_each(
    server, tmp_path, transport, mounts
):
    release = Release(server, new_version())
    files = {f"{number:05}.pt": b"x" * (number % 1000) for number in range(MANY)}
    release.dataset("slowfast8x8_r101_k400", files)
    env = environment(server, tmp_path / "home", transport)
    arguments = ("--version", release.version, "--datasets", "slowfast8x8_r101_k400")

    def requests_of_listing(root: Path) -> Mapping[str, int]:
        before = status(root)["requests"]
        directory = root / release.version / "slowfast8x8_r101_k400"
        done = subprocess.run(["ls", "-l", directory], capture_output=True, text=True, check=True)
        sizes = {words[8]: int(words[4]) for words in map(str.split, done.stdout.splitlines()[1:])}
        del sizes["manifest.csv"]
        assert sizes == {name: len(data) for name, data in files.items()}
        after = status(root)["requests"]
        return {kind: after[kind] - before[kind] for kind in after}

    root = mounts(*arguments, env=env)
    assert requests_of_listing(root) == {"head": MANY, "get": 0, "manifest": 0}
    assert requests_of_listing(root) == {"head": 0, "get": 0, "manifest": 0}
    mounts.unmount(root)
    mounts.again(root, *arguments, env=env)
    found = requests_of_listing(root)
    assert (found["head"], found["get"]) == (0, 0)
    assert found["manifest"] <= 1
