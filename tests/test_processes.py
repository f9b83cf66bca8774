"""Real processes of one machine on one cache: what they fetch, counted at the server."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from botocore.loaders import JSONFileLoader

from ego4dfs.runtime import range_locks
from kit import url_process
from kit.data import MIB, seeded
from kit.processes import wait_until

SIZE = 48 * MIB
NAME = "long.bin"
DATA = seeded("processes", SIZE)
MD5 = hashlib.md5(DATA).hexdigest()  # noqa: S324
TESTS = Path(__file__).parent

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """On a busy machine another process may take longer than one waits for it."""
    monkeypatch.setattr(range_locks, "WAIT_S", url_process.PATIENT_S)
    monkeypatch.setattr(range_locks, "NAME_WAIT_S", url_process.PATIENT_S)


@pytest.fixture
def path(release, licensee, gateway, monkeypatch) -> str:
    """A file on a server that counts; returns its path in the tree."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.url)
    release.dataset("full_scale", {NAME: DATA})
    return f"{release.version}/full_scale/{NAME}"


@pytest.fixture
def start(release, path, spawn) -> Start:
    """Start a process that will read the file on `ego4d://`, and wait until it is ready."""

    def start_one(*how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "kit.url_process", release.version, path, *how]
        env = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return spawn(command, env=env, text=True, **pipes)

    return start_one


def ready(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdout.readline() == "ready\n"


def go(process: subprocess.Popen[str]) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def test_processes_that_read_one_file_at_once_fetch_it_once(gateway, start):
    processes = [start() for _ in range(4)]
    ready(processes)
    before = gateway.bytes_sent
    for process in processes:
        go(process)
    assert [process.stdout.readline().strip() for process in processes] == [MD5] * 4
    assert gateway.bytes_sent - before <= 1.02 * SIZE


@pytest.mark.fuse
def test_a_mount_and_a_url_that_read_one_file_at_once_fetch_it_once(
    gateway, release, path, start, mount
):
    mountpoint = mount("--version", release.version, "--datasets", "full_scale")
    process = start()
    ready([process])
    before = gateway.bytes_sent
    go(process)
    found = hashlib.md5((mountpoint / path).read_bytes()).hexdigest()  # noqa: S324
    assert [found, process.stdout.readline().strip()] == [MD5] * 2
    assert gateway.bytes_sent - before <= 1.02 * SIZE


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.fault(
    area="processes",
    fault="another process is killed or stopped while it fetches what this one reads",
    face="ego4d://",
    sees="right bytes; those that the other one was fetching are fetched again",
    deadline="10 s more if it is stopped",
)
def test_a_process_that_is_killed_or_stopped_while_it_fetches_costs_a_bounded_wait(
    gateway, release, path, start, how, monkeypatch
):
    monkeypatch.setattr(range_locks, "WAIT_S", 1.0)
    fs = fsspec.filesystem(
        "ego4d", version=release.version, datasets=["full_scale"], skip_instance_cache=True
    )
    holder = start()
    ready([holder])
    gateway.faults.bytes_per_s = 4 * MIB  # of each connection
    before = gateway.bytes_sent
    go(holder)
    wait_until(lambda: gateway.bytes_sent - before > 2 * MIB)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fs.cat_file(path)))
    reader.start()
    time.sleep(0.3)
    holder.send_signal(how)
    gateway.faults.bytes_per_s = 0.0
    reader.join(120)
    assert found == [DATA]
    holder.kill()
    fs.close()


def test_what_was_read_before_an_exit_without_a_close_is_cached(gateway, start, tmp_path):
    process = start("exit")
    ready([process])
    go(process)
    assert process.stdout.readline().strip() == MD5
    process.wait(60)
    cached = sum(path.stat().st_size for path in (tmp_path / "cache").glob("v1/blocks/??/*"))
    assert SIZE - cached <= 8 * MIB


def windows(fs, path: str, seed: int) -> bool:
    """Read ranges as a DataLoader worker does: the same windows as the others, in its own order."""
    starts = [place * 1_100_000 for place in range(SIZE // 1_100_000)]
    random.Random(seed).shuffle(starts)
    with fs.open(path) as file:
        for first in starts:
            file.seek(first)
            if file.read(700_000) != DATA[first : first + 700_000]:
                return False
    return True


@pytest.mark.parametrize("is_used", [False, True], ids=["unused", "used"])
def test_forked_workers_fetch_no_byte_twice(gateway, release, path, is_used):
    """Whether their parent has used the filesystem, or only obstore, as the fixtures have."""
    fs = fsspec.filesystem(
        "ego4d", version=release.version, datasets=["full_scale"], skip_instance_cache=True
    )
    if is_used:
        assert fs.cat_file(path, 0, 10) == DATA[:10]
    before = gateway.bytes_sent
    children = []
    for seed in range(4):
        pid = os.fork()
        if not pid:
            signal.alarm(120)
            os._exit(0 if windows(fs, path, seed) else 1)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    assert gateway.bytes_sent - before <= 1.005 * SIZE
    fs.close()


@pytest.mark.parametrize("is_shared", [False, True], ids=["a share each", "all each"])
def test_workers_that_read_small_files_fetch_each_once(
    gateway, release, licensee, is_shared, monkeypatch
):
    """What one process reads ahead is not read ahead by another one, and is there when it opens."""
    names = [f"{number:03}.pt" for number in range(200)]
    release.dataset("omnivore_video_swinl", {name: name.encode() * 100 for name in names})
    monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.url)
    fs = fsspec.filesystem(
        "ego4d",
        version=release.version,
        datasets=["omnivore_video_swinl"],
        skip_instance_cache=True,
    )
    top = f"{release.version}/omnivore_video_swinl"
    fs.isdir(top)
    gateway.reset()
    children = []
    for worker in range(4):
        pid = os.fork()
        if not pid:
            signal.alarm(120)
            mine = names if is_shared else names[worker::4]
            random.Random(worker).shuffle(mine)
            is_right = all(fs.cat_file(f"{top}/{name}") == name.encode() * 100 for name in mine)
            os._exit(0 if is_right else 1)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    asked = Counter(path for _, path, _ in gateway.log if path.endswith(".pt"))
    assert len(asked) == 200
    assert asked.total() <= 1.02 * 200
    fs.close()


def test_a_forked_worker_imports_and_parses_nothing_that_its_parent_can(release, path, monkeypatch):
    """Each epoch has new workers, and obstore, which their parent uses, cannot be used in them."""
    parsed: list[str] = []
    load = JSONFileLoader.load_file
    monkeypatch.setattr(
        JSONFileLoader, "load_file", lambda of, name: parsed.append(name) or load(of, name)
    )
    fs = fsspec.filesystem(
        "ego4d", version=release.version, datasets=["full_scale"], skip_instance_cache=True
    )
    fs.cat_file(path, 0, 10)
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        before = {*sys.modules}
        parsed.clear()
        is_right = fs.cat_file(path, MIB, MIB + 10) == DATA[MIB : MIB + 10]
        imported = {name.partition(".")[0] for name in {*sys.modules} - before}
        is_ready = not parsed and not imported & {"s3fs", "aiobotocore", "aiohttp"}
        os._exit(0 if is_right and is_ready else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    fs.close()


def test_processes_that_start_together_ask_for_each_manifest_and_fact_once(gateway, release, path):
    """Forked, as the workers of a DataLoader or the ranks of a node are; some start later."""
    fs = fsspec.filesystem(
        "ego4d", version=release.version, datasets=["full_scale"], skip_instance_cache=True
    )
    gateway.reset()
    children = []
    for _ in range(16):
        pid = os.fork()
        if not pid:
            signal.alarm(120)
            os._exit(0 if fs.info(path)["size"] == SIZE else 1)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 16
    counts = Counter(method for method, _, _ in gateway.log)
    assert counts == {"GET": 1, "HEAD": 1}, gateway.log
