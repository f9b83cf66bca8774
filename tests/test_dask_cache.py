"""`prefetch --to cache --dask`: the cache of each node is filled, a shared one once."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from kit.cli import EGO4DFS
from kit.dask import command
from kit.data import MIB, seeded
from kit.processes import wait_until
from kit.server import environment

pytestmark = pytest.mark.first_pass

FILES = {f"v{number}.mp4": seeded(f"video {number}", 2 * MIB + number) for number in range(10)}
SIZE = sum(map(len, FILES.values()))
TO_CACHE = ["-y", "--to", "cache", "--no-metadata", "--json", "--datasets", "full_scale"]
HOSTS = ("127.0.0.2", "127.0.0.3")


def cache_of(tmp_path, host: str) -> dict[str, str]:
    return {"EGO4DFS_CACHE_DIR": str(tmp_path / f"cache-{host}")}


def is_full(prefetch, tmp_path, host: str) -> bool:
    where = ["--cache-dir", cache_of(tmp_path, host)["EGO4DFS_CACHE_DIR"]]
    done = prefetch(*TO_CACHE, *where, "--dry-run", out=False)
    return json.loads(done.stdout)["datasets"][0]["to_fetch"] == 0


def test_the_cache_of_each_node_is_filled_although_a_worker_is_lost(
    release, prefetch, front, dask_cluster, spawn, tmp_path
):
    release.dataset("full_scale", FILES)
    workers = [dask_cluster.worker(host, **cache_of(tmp_path, host)) for host in (HOSTS[0], *HOSTS)]
    dask_cluster.wait(3)
    front.faults.bytes_per_s = 1.0 * MIB
    options = ["--dask", dask_cluster.address, "--pin"]
    line = command("prefetch", *TO_CACHE, "--version", release.version, *options)
    run = spawn(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: front.bytes_sent > SIZE // 2)
    workers[0].send_signal(signal.SIGKILL)
    front.faults.bytes_per_s = 0.0
    text, errors = run.communicate(timeout=170)
    assert run.returncode == 0, errors
    done = json.loads(text)
    assert [node["done"] + node["skipped"] for node in done["nodes"]] == [10, 10]
    assert front.bytes_sent <= 1.05 * 2 * SIZE + 16 * MIB
    before = len(front.log)
    assert all(is_full(prefetch, tmp_path, host) for host in HOSTS)
    # The sizes are there, too.
    assert [one for one in front.log[before:] if ".mp4" in one[1]] == []


def test_a_cache_that_nodes_share_is_filled_once(release, prefetch, front, dask_cluster, tmp_path):
    release.dataset("full_scale", FILES)
    for host in HOSTS:
        dask_cluster.worker(host)
    dask_cluster.wait(2)
    options = ["--dask", dask_cluster.address]
    done = json.loads(prefetch(*TO_CACHE, *options, out=False).stdout)
    assert (done["done"], done["fetched_bytes"], len(done["nodes"])) == (10, SIZE, 1)
    again = json.loads(prefetch(*TO_CACHE, *options, out=False).stdout)
    assert (again["skipped"], again["fetched_bytes"]) == (10, 0)


def test_a_cache_without_room_fails_its_node_only(release, prefetch, dask_cluster, tmp_path):
    release.dataset("full_scale", FILES)
    dask_cluster.worker(HOSTS[0], **cache_of(tmp_path, HOSTS[0]))
    full = cache_of(tmp_path, HOSTS[1])
    (tmp_path / f"cache-{HOSTS[1]}").write_text("no directory")
    dask_cluster.worker(HOSTS[1], **full)
    dask_cluster.wait(2)
    done = prefetch(*TO_CACHE, "--dask", dask_cluster.address, out=False, code=3)
    errors = [node["error"] for node in json.loads(done.stdout)["nodes"]]
    assert errors.count(None) == 1
    assert is_full(prefetch, tmp_path, HOSTS[0])
    release.dataset("full_scale", {f"v{number}.mp4": FILES["v0.mp4"] for number in range(30)})
    small = ["--cache-size", "64MiB"]
    done = prefetch(*TO_CACHE, *small, "--dask", dask_cluster.address, out=False, code=1)
    assert "are selected, and" in json.loads(done.stdout)["stopped_by"]


def test_indexes_and_windows_are_fetched_into_the_cache_of_each_node(
    sampled, tmp_path, transport, dask_cluster
):
    env = environment(sampled.server, tmp_path / "home", transport)
    windows = tmp_path / "windows.csv"
    rows = [f"{video.uid},0.5,1" for video in sampled.sample.videos]
    windows.write_text("\n".join(["video_uid,start_s,end_s", *rows, ""]))
    line = [*EGO4DFS, "prefetch", "-y", "--to", "cache", "--datasets", "full_scale", "--json"]

    def run(*more):
        done = subprocess.run([*line, *more], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    for host in HOSTS:
        dask_cluster.worker(host, **{**env, **cache_of(tmp_path, host)})
    dask_cluster.wait(2)
    for what in (["--windows", str(windows)], ["--indexes"]):
        done = run(*what, "--dask", dask_cluster.address)
        single = run(*what, "--cache-dir", str(tmp_path / "single"))
        assert [node["error"] for node in done["nodes"]] == [None, None]
        assert done["files"] == 2 * single["files"]
        # Windows need the indexes, which are then there.
        assert [node["fetched_bytes"] for node in done["nodes"]] == [single["fetched_bytes"]] * 2
        for host in HOSTS:
            there = run(*what, "--dry-run", "--cache-dir", str(tmp_path / f"cache-{host}"))
            assert there["needed_cached_bytes"] == there["needed_bytes"] > 0
    assert done["videos"] == 2 * single["videos"]
