"""Buffers fit into the memory that the cgroups of a process allow."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

import pytest

from ego4dfs.config import resolve
from ego4dfs.doctor import Level, check_machine
from ego4dfs.reader import downloads
from ego4dfs.runtime import memory_limit as module
from ego4dfs.runtime.memory_limit import (
    AMPLE_BYTES,
    BASE_BYTES,
    SCARCE_BYTES,
    is_memory_scarce,
    memory_limit,
    within_memory_limit,
)
from ego4dfs.vfs import index_cache
from ego4dfs.vfs.index_cache import IndexCache
from kit.data import MIB

pytestmark = pytest.mark.first_pass

SECOND = "0::/slurm/job_7/step_0\n"
FIRST = "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/\n"


@pytest.fixture(autouse=True)
def _read_again():
    memory_limit.cache_clear()
    yield
    memory_limit.cache_clear()


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Write the files of cgroups; returns the limit that is found in them."""
    monkeypatch.setattr(module, "CGROUPS", tmp_path)
    monkeypatch.setattr(module, "MEMBERSHIP", tmp_path / "membership")

    def found(membership: str, files: dict[str, str]) -> int | None:
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="latin-1")
        return memory_limit()

    return found


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        pytest.param(SECOND, {"slurm/job_7/step_0/memory.max": "268435456\n"}, 1 << 28, id="own"),
        pytest.param(
            SECOND,
            {"slurm/job_7/step_0/memory.max": "max\n", "slurm/job_7/memory.max": "1000\n"},
            1000,
            id="of the job",
        ),
        pytest.param(
            SECOND,
            {"slurm/job_7/step_0/memory.max": "3000\n", "slurm/memory.max": "2000\n"},
            2000,
            id="the smallest",
        ),
        pytest.param("0::/\n", {"memory.max": "1000\n"}, 1000, id="of a container"),
        pytest.param("0::/../host\n", {"memory.max": "1000\n"}, 1000, id="started elsewhere"),
        pytest.param(
            FIRST, {"memory/memory.limit_in_bytes": "1000\n"}, 1000, id="version 1, of a container"
        ),
        pytest.param(
            FIRST,
            {
                "memory/docker/ab/memory.limit_in_bytes": "1000\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            1000,
            id="version 1",
        ),
        pytest.param(
            FIRST, {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None, id="unlimited"
        ),
        pytest.param(FIRST, {"cpu/memory.limit_in_bytes": "1000\n"}, None, id="of no memory"),
        pytest.param(SECOND, {}, None, id="no files"),
        pytest.param("", {"memory.max": "1000\n"}, None, id="no membership"),
        pytest.param("0::/\n", {"memory.max": "max\n", "memory.high": "7\n"}, 7, id="throttled"),
        pytest.param("nonsense\n::\n0\n", {"memory.max": "7\n"}, None, id="odd membership"),
        pytest.param("0::/\n", {"memory.max": "\xff-1\n"}, None, id="odd limit"),
    ],
)
def test_the_limit_is_the_smallest_of_all_cgroups(cgroups, membership, files, limit):
    assert cgroups(membership, files) == limit


def test_without_cgroups_there_is_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MEMBERSHIP", tmp_path / "none")
    assert memory_limit() is None
    assert within_memory_limit(80 * MIB) == 80 * MIB


def limited(monkeypatch, limit: int | None) -> None:
    monkeypatch.setattr(module, "memory_limit", lambda: limit)


@pytest.mark.parametrize(
    ("limit", "share"),
    [
        (None, 1),
        (1 << 40, 1),
        (BASE_BYTES + AMPLE_BYTES, 1),
        (BASE_BYTES + AMPLE_BYTES // 2, 0.5),
        (BASE_BYTES, 0.05),
        (0, 0.05),
    ],
)
def test_buffers_have_a_share_of_their_full_size(monkeypatch, limit, share):
    limited(monkeypatch, limit)
    assert within_memory_limit(100 * MIB) == share * 100 * MIB


@pytest.mark.parametrize(
    ("limit", "is_scarce"),
    [(None, False), (SCARCE_BYTES, False), (SCARCE_BYTES - 1, True)],
)
def test_memory_is_scarce_below_a_limit(monkeypatch, limit, is_scarce):
    limited(monkeypatch, limit)
    assert is_memory_scarce() == is_scarce


def test_less_is_in_flight_where_memory_is_limited(make_reader, monkeypatch):
    limited(monkeypatch, BASE_BYTES + AMPLE_BYTES // 4)
    budget = make_reader(None).downloads._budget
    quarter = downloads.MAX_INFLIGHT_BYTES // 4
    assert budget.acquire(quarter, wait=False)
    assert not budget.acquire(1, wait=False)
    budget.release(quarter)


def test_fewer_indexes_are_kept_where_memory_is_limited(monkeypatch):
    limited(monkeypatch, BASE_BYTES + AMPLE_BYTES // 2)
    cache = IndexCache()
    assert cache._indexes._limit == index_cache.MAX_INDEXES_BYTES // 2
    assert cache._cuts._limit == index_cache.MAX_CUTS_BYTES // 2


def test_the_index_of_an_hour_is_kept_where_memory_is_limited(monkeypatch):
    limited(monkeypatch, 0)
    assert IndexCache()._indexes._limit == 16 * MIB


@pytest.mark.parametrize("command", ["serve", "browse"])
def test_servers_save_memory_too(monkeypatch, command):
    def tune() -> None:
        raise InterruptedError

    run = importlib.import_module(f"ego4dfs.cli.{command}")
    monkeypatch.setattr(run, "tune_memory", tune)
    with pytest.raises(InterruptedError):
        run.run(argparse.Namespace())


FREED = """
import sys
from ego4dfs.runtime.memory_settings import tune_memory
from ego4dfs.runtime import memory_limit

memory_limit.memory_limit = lambda: int(sys.argv[1])
tune_memory()
blocks = [bytearray(1 << 20) for _ in range(100)]
kept = blocks[-1:]  # at the end of the heap, if they are in the heap
blocks.clear()
with open("/proc/self/statm") as file:
    print(int(file.read().split()[1]) * 4096 >> 20)
"""


@pytest.mark.parametrize(("limit", "is_returned"), [(256 * MIB, True), (1 << 40, False)])
def test_freed_blocks_are_returned_at_once_where_memory_is_limited(limit, is_returned):
    command = [sys.executable, "-c", FREED, str(limit)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (int(done.stdout) < 100) == is_returned


@pytest.mark.parametrize(
    ("limit", "level", "found"),
    [
        (None, Level.OK, "no cgroup limits it"),
        (8 << 30, Level.OK, "8.0 GiB"),
        (256 * MIB, Level.OK, "256.0 MiB: little, so less is kept in memory"),
        (100 * MIB, Level.WARN, "100.0 MiB: a mount needs 160.0 MiB"),
    ],
)
def test_doctor_shows_the_limit(tmp_path, monkeypatch, limit, level, found):
    limited(monkeypatch, limit)
    monkeypatch.setattr("ego4dfs.doctor.machine.memory_limit", module.memory_limit)
    config = resolve({"cache_dir": tmp_path})
    (check,) = (one for one in check_machine(config) if one.name == "memory")
    assert (check.level, check.found) == (level, found)
    assert ("--mem" in check.remedy) == (level is Level.WARN)
