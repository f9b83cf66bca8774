"""`prefetch --dask --each-node`: the whole selection on each node, whose workers may be lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from distributed import Client, wait

from ego4dfs.cluster.task_run import Task, TaskRun
from kit.cli import EGO4DFS, complaint
from kit.dask import WITHOUT_KEYS, command
from kit.data import MIB, seeded
from kit.namespaces import unshare
from kit.prefetch import data_of, tree
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

SMALL = {f"{number:03}.pt": seeded(f"small {number}", 1000 + number) for number in range(40)}
LARGE = {f"v{number}.mp4": seeded(f"large {number}", 3 * MIB + number) for number in range(8)}
SIZE = sum(map(len, [*SMALL.values(), *LARGE.values()]))
SELECTED = ["-y", "--no-metadata", "--json", "--datasets", "full_scale", "slowfast8x8_r101_k400"]
HOSTS = ("127.0.0.2", "127.0.0.3")


@pytest.fixture
def written(release):
    release.dataset("full_scale", LARGE)
    release.dataset("slowfast8x8_r101_k400", SMALL)
    return release


@pytest.fixture
def nodes(request, dask_cluster, front, tmp_path):
    """Two nodes with `param` workers each, else two, and own directories at tmp_path/out."""
    out = tmp_path / "out"
    out.mkdir()
    found, workers = {}, getattr(request, "param", 2)
    for host in HOSTS:
        own = tmp_path / host
        own.mkdir()
        mount = f'mount --bind {own} {out} && exec "$@"'
        within = [*unshare("private"), "sh", "-c", mount, "sh"]
        cache = {"EGO4DFS_CACHE_DIR": str(tmp_path / f"cache-{host}")}
        found[host] = [dask_cluster.worker(host, within=within, **cache) for _ in range(workers)]
    dask_cluster.wait(2 * workers)
    return found


def started(spawn, release, out: Path, *options: str, code: str = "") -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    line = ["prefetch", "-o", str(out), *options, "--version", release.version, *SELECTED]
    return spawn(command(*line, code=code or WITHOUT_KEYS), **pipes)


def in_any_order(found: dict[str, bytes]) -> dict[str, object]:
    """Return files by path; the rows of manifest.ver are in the order of their completion."""
    rows = {path: sorted(data.splitlines()) for path, data in found.items()}
    return {path: rows[path] if path.endswith(".ver") else data for path, data in found.items()}


def check_tree(found: dict[str, bytes], release) -> None:
    assert data_of(found, release, "full_scale") == LARGE
    assert data_of(found, release, "slowfast8x8_r101_k400") == SMALL


def test_each_node_has_all_files_although_a_worker_is_lost(
    written, prefetch, front, nodes, dask_cluster, spawn, tmp_path
):
    prefetch(*SELECTED, "-o", str(tmp_path / "single"))
    single = in_any_order(tree(tmp_path / "single"))
    before = front.bytes_sent
    front.faults.bytes_per_s = 1.0 * MIB  # of each connection
    options = ["--dask", dask_cluster.address, "--each-node"]
    run = started(spawn, written, tmp_path / "out", *options)
    wait_until(lambda: front.bytes_sent - before > SIZE // 3)
    nodes[HOSTS[0]][0].send_signal(signal.SIGKILL)
    front.faults.bytes_per_s = 0.0
    text, errors = run.communicate(timeout=170)
    assert run.returncode == 0, errors
    done = json.loads(text)
    for host in HOSTS:
        assert in_any_order(tree(tmp_path / host)) == single
    assert done["files"] == done["done"] + done["skipped"] == 2 * 48
    assert [node["done"] + node["skipped"] for node in done["nodes"]] == [48, 48]
    assert [host in node["node"] for host, node in zip(HOSTS, done["nodes"], strict=True)]
    in_flight = 8 * MIB
    assert front.bytes_sent - before <= 1.05 * 2 * SIZE + in_flight
    again = json.loads(prefetch(*SELECTED, *options).stdout)
    assert (again["skipped"], again["fetched_bytes"]) == (96, 0)
    verified = [*EGO4DFS, "verify", "-o", str(tmp_path / HOSTS[1]), "--version", written.version]
    done = subprocess.run(verified, capture_output=True, text=True, check=True)
    assert done.stdout == "48 right\n"  # it knows what was selected there


@pytest.mark.parametrize("nodes", [1], indirect=True)
def test_a_node_without_workers_is_named_and_the_others_go_on(
    written, front, nodes, dask_cluster, spawn, tmp_path
):
    front.faults.bytes_per_s = 0.5 * MIB
    options = ["--dask", dask_cluster.address, "--each-node"]
    code = "from ego4dfs.cluster import node_fetcher; node_fetcher.WORKERS_S = 2.0"
    run = started(spawn, written, tmp_path / "out", *options, code=code)
    wait_until(lambda: front.bytes_sent > SIZE // 3)
    for process in nodes[HOSTS[1]]:
        process.kill()
    front.faults.bytes_per_s = 0.0
    text, errors = run.communicate(timeout=170)
    assert run.returncode == 3, errors
    done = json.loads(text)
    first, second = done["nodes"]
    assert (first["done"], first["error"]) == (48, None)
    assert "no worker is left on this node" in second["error"]
    assert f"({HOSTS[1]}) is not complete:" in errors
    assert "Traceback" not in errors
    [again] = done["retry"]
    assert "--each-node" in again
    check_tree(tree(tmp_path / HOSTS[0]), written)


@pytest.mark.parametrize("nodes", [1], indirect=True)
def test_a_directory_that_a_node_cannot_write_fails_that_node_only(
    written, prefetch, nodes, dask_cluster, tmp_path
):
    (tmp_path / HOSTS[0] / ".ego4dfs").write_text("")
    options = ["--dask", dask_cluster.address, "--each-node"]
    done = json.loads(prefetch(*SELECTED, *options, code=3).stdout)
    [failed, right] = sorted(done["nodes"], key=lambda node: HOSTS[1] in node["node"])
    assert "not a directory" in failed["error"] or "exists" in failed["error"]
    assert (right["done"], right["error"]) == (48, None)
    check_tree(tree(tmp_path / HOSTS[1]), written)


def test_nodes_that_share_the_directory_fill_it_once(written, prefetch, front, dask_cluster):
    for host in HOSTS:
        dask_cluster.worker(host)
    dask_cluster.wait(2)
    done = json.loads(prefetch(*SELECTED, "--dask", dask_cluster.address, "--each-node").stdout)
    assert (done["files"], done["done"], done["fetched_bytes"]) == (48, 48, SIZE)
    [node] = done["nodes"]
    assert f"({HOSTS[0]} and 1 more)" in node["node"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--each-node"], "--each-node: only for --dask"),
        (["--dask", "local:1", "--each-node", "--to", "cache"], "not needed with --to cache"),
        (
            ["--dask", "local:1", "--each-node", "--bypass-existing"],
            "--bypass-existing: not allowed with --each-node",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(written, prefetch, arguments, text):
    done = prefetch("-y", *arguments, code=2, out="cache" not in arguments)
    assert text in complaint(done)


def test_tasks_of_one_node_that_fail_at_once_end_it_once(dask_cluster):
    dask_cluster.worker()
    with Client(dask_cluster.address) as client:
        client.wait_for_workers(1, 60)
        tasks, futures, errors = TaskRun(client, print), [], []

        def fail(error):
            errors.append(error)
            tasks.drop(futures)

        for number in range(4):
            missing = f"/nonexistent/{number}"
            futures.append(tasks.submit(os.rmdir, missing, Task(print, fail)))
        wait(futures, 60)
        while tasks.is_waiting:
            tasks.step()
    assert [type(error) for error in errors] == [FileNotFoundError]
