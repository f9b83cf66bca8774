"""`prefetch --dask`: one plan on several workers, which may be lost, with one report."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed.client import AllExit

from ego4dfs.cluster import worker, worker_task
from ego4dfs.cluster.dask_client import is_no_lost_result
from ego4dfs.cluster.part import Part, split
from ego4dfs.cluster.part_reports import PartReport, PartState
from ego4dfs.config import Config
from ego4dfs.copies import State
from ego4dfs.errors import OutputError
from ego4dfs.prefetch import DatasetPlan, Item, Plan, Problem, Report, Status
from ego4dfs.store import ObjectFacts
from kit.cli import complaint
from kit.data import MIB, seeded
from kit.guides import examples, run_example
from kit.prefetch import data_of, tree
from kit.processes import wait_until
from kit.server import environment

pytestmark = pytest.mark.first_pass

SMALL = {f"{number:03}.pt": seeded(f"small {number}", 1000 + number) for number in range(60)}
LARGE = {f"v{number}.mp4": seeded(f"large {number}", 6 * MIB + number) for number in range(12)}
SIZE = sum(map(len, [*SMALL.values(), *LARGE.values()]))
DASK = ["-y", "--no-metadata", "--json", "--datasets", "full_scale", "slowfast8x8_r101_k400"]


@pytest.fixture
def written(release):
    release.dataset("full_scale", LARGE)
    release.dataset("slowfast8x8_r101_k400", SMALL)
    return release


def check_tree(out: Path, release) -> None:
    found = tree(out)
    assert data_of(found, release, "full_scale") == LARGE
    assert data_of(found, release, "slowfast8x8_r101_k400") == SMALL
    assert not list((out / ".ego4dfs").glob("shard-*"))
    assert not list((out / ".ego4dfs").glob("dask-*"))


def test_each_object_is_in_one_part_and_parts_have_equal_sizes():
    facts = [ObjectFacts(size, "e", "", 1) for size in (100, 10, 10, 10, 10, 60, 0)]
    items = [
        Item("v2/d", f"{place}", "d", "", f"s3://b/{place}", one, State.FETCH)
        for place, one in enumerate(facts)
    ]
    other = Item("v2/e", "0", "e", "", "s3://b/0", facts[0], State.CHECK)
    right = Item("v2/e", "9", "e", "", "s3://b/9", facts[0], State.RIGHT)
    plan = Plan([DatasetPlan("d", 9, items), DatasetPlan("e", 9, [other, right])])
    parts = split(plan, 1)
    assert len(parts) == 4
    paths = [[item.path for item in part.items] for part in parts]
    assert sorted(chain.from_iterable(paths)) == sorted(item.path for item in [*items, other])
    assert ["v2/d/0", "v2/e/0"] in paths
    assert ["v2/d/5"] in paths
    assert split(Plan([DatasetPlan("e", 9, [right])]), 4) == []
    items[3] = replace(items[3], facts=None)  # then all count alike
    counts = [len({item.url for item in part.items}) for part in split(plan, 1)]
    assert sorted(counts) == [1, 2, 2, 2]


def test_local_workers_write_the_tree_of_one_run(written, prefetch, front, tmp_path):
    with socket.socket() as dashboard:  # a port of Dask's that another cluster may have
        with suppress(OSError):
            dashboard.bind(("127.0.0.1", 8787))
            dashboard.listen()
        run = prefetch(*DASK, "--dask", "local:2")
    assert "Warning" not in run.stderr
    done = json.loads(run.stdout)
    check_tree(tmp_path / "out", written)
    assert (done["done"], done["skipped"], done["problems"]) == (72, 0, [])
    assert done["fetched_bytes"] == SIZE
    again = json.loads(prefetch(*DASK, "--dask", "tcp://127.0.0.1:9").stdout)  # not needed
    assert (again["done"], again["skipped"], again["fetched_bytes"]) == (0, 72, 0)
    plain = json.loads(prefetch(*DASK, "--cache-dir", str(tmp_path / "other")).stdout)
    assert (plain["done"], plain["skipped"]) == (0, 72)


@pytest.fixture
def workers(cluster):
    """The address of a scheduler, and its workers."""
    return cluster[0], cluster[2]


@pytest.fixture
def cluster(dask_cluster, front):
    """A scheduler and four workers as processes of their own; returns its address and both."""
    processes = [dask_cluster.worker() for _ in range(4)]
    return dask_cluster.address, dask_cluster.scheduler, processes


def test_the_files_of_a_lost_worker_are_taken_over(
    written, prefetch, front, workers, spawn, tmp_path
):
    address, processes = workers
    front.faults.bytes_per_s = 2.0 * MIB  # of each connection
    out = tmp_path / "out"
    run = started(spawn, written, out, "--dask", address)
    wait_until(lambda: front.bytes_sent > SIZE // 3)
    processes[0].send_signal(signal.SIGKILL)
    front.faults.bytes_per_s = 0.0
    text, errors = run.communicate(timeout=170)
    assert run.returncode == 0, errors
    done = json.loads(text)
    check_tree(out, written)
    assert (done["done"] + done["skipped"], done["problems"]) == (72, [])
    in_flight = 16 * MIB  # of the lost worker
    assert front.bytes_sent <= 1.05 * SIZE + in_flight
    # What the lost worker has fetched after its last message is not counted.
    assert SIZE - in_flight <= done["fetched_bytes"] + done["resumed_bytes"] <= 1.05 * SIZE
    assert json.loads(prefetch(*DASK).stdout)["skipped"] == 72


def started(spawn, release, out: Path, *options: str, code: str = "", **how) -> subprocess.Popen:
    """Start the command, after `code` in its process."""
    begin = [
        sys.executable,
        "-c",
        f"{code}\nfrom ego4dfs.cli import main; raise SystemExit(main())",
    ]
    command = [*begin, "prefetch", "-o", str(out), "--version", release.version, *DASK, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return spawn(command, **pipes, **how)


def test_an_interrupt_ends_all_tasks_and_the_next_run_resumes(
    written, prefetch, front, workers, spawn, tmp_path
):
    address, processes = workers
    front.faults.bytes_per_s = 1.0 * MIB
    out = tmp_path / "out"
    run = started(spawn, written, out, "--dask", address)
    wait_until(lambda: front.bytes_sent > SIZE // 3)
    run.send_signal(signal.SIGINT)
    text, errors = run.communicate(timeout=120)
    assert run.returncode == 130, errors
    assert "Interrupted; downloaded data is kept. To continue:" in errors
    assert f"--dask {address}" in errors
    fetched = json.loads(text)["fetched_bytes"]
    assert 0 < fetched < SIZE
    wait_until(lambda: not front.answering)  # it notices late that nobody takes its answers
    before = front.bytes_sent
    front.faults.bytes_per_s = 0.0
    done = json.loads(prefetch(*DASK, "--dask", address).stdout)
    check_tree(out, written)
    assert done["fetched_bytes"] + fetched <= 1.05 * SIZE
    assert front.bytes_sent - before <= 1.05 * (SIZE - fetched)
    assert [one.poll() for one in processes] == [None] * 4


def test_ctrl_c_in_a_terminal_loses_nothing_of_local_workers(
    written, prefetch, front, spawn, tmp_path
):
    """The workers get the signal, too."""
    front.faults.bytes_per_s = 1.0 * MIB
    out = tmp_path / "out"
    run = started(spawn, written, out, "--dask", "local:2", start_new_session=True)
    wait_until(lambda: front.bytes_sent > SIZE // 3)
    os.killpg(run.pid, signal.SIGINT)
    text, errors = run.communicate(timeout=120)
    assert run.returncode == 130, errors
    assert "Traceback" not in errors
    assert "To continue:" in errors
    fetched = json.loads(text)["fetched_bytes"]
    wait_until(lambda: not front.answering)
    before = front.bytes_sent
    front.faults.bytes_per_s = 0.0
    prefetch(*DASK)
    check_tree(out, written)
    assert front.bytes_sent - before <= 1.05 * (SIZE - fetched)


def test_ctrl_c_while_local_workers_start_prints_no_traceback(written, prefetch, spawn, tmp_path):
    """Neither from the command nor from the workers, which get the signal, too."""
    code = (
        "import distributed, os, signal\n"
        "class Signalled(distributed.LocalCluster):\n"
        "    async def _start(self):\n"
        "        os.killpg(0, signal.SIGINT)\n"
        "        return await super()._start()\n"
        "distributed.LocalCluster = Signalled"
    )
    options = ["--dask", "local:1"]
    run = started(spawn, written, tmp_path / "out", *options, code=code, start_new_session=True)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 130, errors
    assert "Traceback" not in errors
    assert "To continue:" in errors


def test_tasks_end_when_their_client_was_killed(written, prefetch, front, workers, spawn, tmp_path):
    """The next run can begin, although no task was told to end."""
    front.faults.bytes_per_s = 0.25 * MIB
    out = tmp_path / "out"
    run = started(spawn, written, out, "--dask", workers[0])
    wait_until(lambda: front.bytes_sent > SIZE // 20)
    run.kill()
    run.communicate()
    wait_until(lambda: not list((out / ".ego4dfs").glob("shard-*")))
    assert front.bytes_sent < SIZE / 2
    front.faults.bytes_per_s = 0.0
    prefetch(*DASK, "--dask", workers[0])
    check_tree(out, written)


def test_a_disk_error_before_the_tasks_is_reported_as_such(written, prefetch, spawn, tmp_path):
    code = (
        "from ego4dfs.cluster import dask_fetcher\n"
        "def fails(path, data): raise OSError(28, 'No space left on device', str(path))\n"
        "dask_fetcher.write_atomic = fails"
    )
    run = started(spawn, written, tmp_path / "out", "--dask", "local:1", code=code)
    printed, errors = run.communicate(timeout=120)
    assert run.returncode == 1, errors
    assert "no space left on device" in json.loads(printed)["stopped_by"]
    assert "hint: make room" in errors


def test_results_that_are_lost_with_their_workers_are_lost_parts(
    written, prefetch, cluster, spawn, tmp_path
):
    """The connection to the scheduler is not: there is just no worker that does them again."""
    address, _, processes = cluster
    code = (
        "import distributed, os, signal\n"
        "from contextlib import suppress\n"
        "from ego4dfs.cluster import dask_fetcher\n"
        "dask_fetcher.WORKERS_S = 2.0\n"
        "fetched = distributed.Future.result\n"
        "def result(self, timeout=None):\n"
        f"    for pid in {[one.pid for one in processes]}:\n"
        "        with suppress(ProcessLookupError):\n"
        "            os.kill(pid, signal.SIGKILL)\n"
        "    return fetched(self, timeout)\n"
        "distributed.Future.result = result"
    )
    out = tmp_path / "out"
    run = started(spawn, written, out, "--dask", address, code=code)
    printed, errors = run.communicate(timeout=120)
    assert run.returncode == 1, errors
    assert "no worker is left" in json.loads(printed)["stopped_by"]
    assert json.loads(prefetch(*DASK).stdout)["failed"] == 0
    check_tree(out, written)


@pytest.mark.parametrize(("error", "is_logged"), [(AllExit(), False), (OSError(), True)])
def test_a_result_that_was_given_up_prints_no_traceback(error, is_logged):
    exc_info = (type(error), error, None)
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "never retrieved", (), exc_info)
    assert is_no_lost_result(record) == is_logged


@pytest.mark.parametrize(
    ("lost", "text"), [("scheduler", "is lost"), ("workers", "no worker is left")]
)
def test_a_cluster_that_is_lost_ends_the_run_and_the_next_one_resumes(  # noqa: PLR0917
    written, prefetch, front, cluster, spawn, tmp_path, lost, text
):
    address, scheduler, processes = cluster
    front.faults.bytes_per_s = 1.0 * MIB
    out = tmp_path / "out"
    code = "from ego4dfs.cluster import dask_fetcher; dask_fetcher.WORKERS_S = 2.0"
    run = started(spawn, written, out, "--dask", address, code=code)
    wait_until(lambda: front.bytes_sent > SIZE // 3)
    for process in [scheduler] if lost == "scheduler" else processes:
        process.kill()
    printed, errors = run.communicate(timeout=120)
    assert run.returncode == 1, errors
    assert text in json.loads(printed)["stopped_by"]
    assert "Traceback" not in errors
    assert "To continue:" in errors
    front.faults.bytes_per_s = 0.0
    for process in processes:
        wait_until(lambda process=process: process.poll() is not None)
    prefetch(*DASK)
    check_tree(out, written)


def test_files_of_unknown_sizes_are_not_fetched_again_after_a_loss(
    written, prefetch, front, workers, spawn, tmp_path
):
    address, processes = workers
    front.faults.bytes_per_s = 2.0 * MIB
    run = started(spawn, written, tmp_path / "out", "--skip-s3-checks", "--dask", address)
    wait_until(lambda: front.bytes_sent > SIZE // 2)
    processes[0].send_signal(signal.SIGKILL)
    front.faults.bytes_per_s = 0.0
    _, errors = run.communicate(timeout=170)
    assert run.returncode == 0, errors
    check_tree(tmp_path / "out", written)
    assert front.bytes_sent <= 1.05 * SIZE + 16 * MIB


def test_what_was_noted_before_the_run_is_reported(written, prefetch, tmp_path):
    (tmp_path / "out/manifest.csv").mkdir(parents=True)
    done = prefetch(*DASK, "--manifest", "--dask", "local:1", code=3)
    assert [one["path"] for one in json.loads(done.stdout)["problems"]] == ["manifest.csv"]


def test_a_password_in_a_url_is_not_sent(written, prefetch):
    done = prefetch("-y", "--source", "ftp://user:word@host/dir", "--dask", "local:1", code=2)
    assert "--source: has a password" in complaint(done)


def test_the_reports_of_all_attempts_are_summed_up():
    state = PartState()
    state.note(PartReport("a", done=5, fetched_bytes=50))
    state.note(PartReport("b", done=3, skipped=5, fetched_bytes=30, resumed_bytes=10))
    state.note(PartReport("c", skipped=9, fetched_bytes=5, resumed_bytes=90))
    total = Report()
    state.add_to(total)
    assert (total.counts[Status.DONE], total.counts[Status.SKIPPED]) == (8, 1)
    assert (total.fetched_bytes, total.resumed_bytes) == (85, 10)
    problem = Problem("v2/d/a", "", Status.FAILED, "no")
    state.note(PartReport("b", done=12, problems=(problem,)), is_final=True)
    state.note(PartReport("c", done=1))  # late
    total = Report()
    state.add_to(total)
    assert (total.counts[Status.DONE], total.problems) == (12, [problem])


def test_a_key_that_is_refused_ends_the_run_with_its_remedy(
    written, prefetch, front, licensee, workers
):
    front.faults.rejected_keys = {licensee["AWS_ACCESS_KEY_ID"]: "ExpiredToken"}
    front.faults.only = ".mp4"
    done = prefetch(*DASK, "--skip-s3-checks", "--dask", workers[0], code=4)
    assert "ExpiredToken" in json.loads(done.stdout)["stopped_by"]
    assert "hint: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--dask", "8786"], "--dask 8786: not an address"),
        (["--dask", "local:0"], "--dask local:0: not an address"),
        (["--dask", "local:2", "--shard", "0/2"], "--dask and --shard cannot be used together"),
    ],
)
def test_what_cannot_be_meant_is_refused(written, prefetch, arguments, text):
    done = prefetch("-y", *arguments, code=2)
    assert text in complaint(done)


def test_a_scheduler_that_is_not_there_is_named(written, prefetch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
    done = prefetch(*DASK, "--dask", address, code=2)
    assert f"--dask {address}: no scheduler with a worker answers there" in done.stderr
    assert "hint: start them: dask scheduler" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_dask_the_package_is_named(written, prefetch, tmp_path):
    (tmp_path / "distributed.py").write_text("raise ImportError('no')\n")
    done = prefetch("-y", "--dask", "local:2", code=2, PYTHONPATH=str(tmp_path))
    assert "hint: pip install 'ego4dfs[cluster]'" in complaint(done)


def test_a_worker_that_does_not_see_the_directory_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(
        worker_task, "get_worker", lambda: SimpleNamespace(address="tcp://10.0.0.7:4")
    )
    plan = Plan([])
    part = Part(Config(), tmp_path, plan, 0, 1, "", 8, ".ego4dfs/dask-1", "topic", "stop")
    older = replace(part, release="0.0.1")
    with pytest.raises(
        OutputError, match=r"worker tcp://10.0.0.7:4 has ego4dfs .*is ego4dfs 0.0.1"
    ):
        worker.fetch_part(older)
    with pytest.raises(OutputError, match=r"worker tcp://10.0.0.7:4 does not see") as error:
        worker.fetch_part(part)
    assert "a directory that all workers share" in error.value.hint


def test_the_example_of_the_guide(sampled, tmp_path, transport):
    env = environment(sampled.server, tmp_path / "home", transport)
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    [(language, code)] = examples(Path(__file__).parent.parent / "docs/guides/prefetch-dask.md")
    assert " 0 already complete; " in run_example(language, code, tmp_path, env)
    done = run_example(language, code.partition(" --dask")[0], tmp_path, env)
    assert "The latest versions of all requested videos already exist" in done
