"""`verify --dask`: the workers of a cluster read the files, and there is one report."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from kit.cli import EGO4DFS
from kit.dask import command
from kit.processes import wait_until
from test_verify import copied, rot  # noqa: F401 - a fixture
from test_verify_shards import HOW, downloaded, verify  # noqa: F401 - a fixture

pytestmark = pytest.mark.first_pass


def test_the_report_is_that_of_one_machine_although_a_worker_is_lost(
    downloaded,  # noqa: F811
    dask_cluster,
    spawn,
):
    """The workers have no key."""
    out, env, _, found = downloaded
    without = {name: "" for name in os.environ if name.startswith("AWS_")}
    workers = [dask_cluster.worker(**without) for _ in range(2)]
    dask_cluster.wait(2)
    for how in HOW:
        assert verify(out, env, *how, "--dask", dask_cluster.address) == found[how]
        assert not list((out / ".ego4dfs").glob("dask-*"))
    workers[0].send_signal(signal.SIGSTOP)  # it has tasks when it is lost
    line = command("verify", "-o", str(out), "--json", "--dask", dask_cluster.address)
    run = spawn(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list((out / ".ego4dfs").glob("dask-*")))
    workers[0].kill()
    text, errors = run.communicate(timeout=120)
    code, whole = found[()]
    assert (run.returncode, json.loads(text)) == (code, whole), errors


def test_a_repair_fetches_what_the_workers_found(copied, dask_cluster):  # noqa: F811
    dask_cluster.worker()
    rot(copied.files / "a.bin")
    cluster = ("--dask", dask_cluster.address)
    code, report = copied.verify("--repair", "-y", *cluster)
    assert (code, report["repaired"], report["problems"]) == (0, 1, [])
    assert copied.verify(*cluster)[0] == 0


def test_a_scheduler_that_is_lost_ends_the_command(downloaded, dask_cluster, spawn):  # noqa: F811
    out, env, _, _ = downloaded
    worker = dask_cluster.worker()
    dask_cluster.wait(1)
    worker.send_signal(signal.SIGSTOP)
    line = [*EGO4DFS, "verify", "-o", str(out), "--json", "--dask", dask_cluster.address]
    run = spawn(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list((out / ".ego4dfs").glob("dask-*")))
    dask_cluster.scheduler.kill()
    printed, errors = run.communicate(timeout=120)
    assert (run.returncode, printed) == (1, "")
    assert "the connection to the scheduler is lost" in errors
    assert "Traceback" not in errors


def test_an_answer_without_all_files_is_an_error(downloaded, dask_cluster):  # noqa: F811
    """A worker that believes that its client is gone ends its task early."""
    out, env, _, _ = downloaded
    dask_cluster.worker()
    early = """
from ego4dfs.cluster import verifier
set_found = verifier.partial
verifier.partial = lambda function, index: lambda found: set_found(function, index)(found[1:])
"""
    words = ("verify", "-o", str(out), "--json", "--dask", dask_cluster.address)
    line = command(*words, code=early)
    run = subprocess.run(line, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert "not all files were checked" in run.stderr
    assert "run it again" in run.stderr
