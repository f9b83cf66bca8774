"""`ego4dfs top`: rates between two status documents, the table of real mounts, and its keys."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import subprocess
import termios
from contextlib import contextmanager
from pathlib import Path

import pytest

from ego4dfs.cli.top_activity import (
    FILES_HEADER,
    REQUESTS_HEADER,
    REQUESTS_OPTIONAL,
    file_rows,
    fitted,
    request_rows,
)
from ego4dfs.cli.top_table import HEADER, OPTIONAL, error_lines, rows
from ego4dfs.metrics import Metrics
from kit.cli import EGO4DFS, complaint
from kit.data import MIB, seeded
from kit.mounts import kill_mount, status
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

PLACE = Path("/m")


def document(metrics, uptime_s, **more):
    cache = {"cache_bytes": MIB, "cache_limit_bytes": 4 * MIB, "cache_state": "ok", "pid": 7}
    return {PLACE: {**metrics.snapshot(), **cache, "uptime_s": uptime_s, **more}}


def cells(before, now):
    ((_, *found),) = rows(before, now)
    return dict(zip(HEADER[1:], found, strict=True))


@pytest.fixture
def root(mount, release):
    release.dataset("annotations", {"a.bin": seeded("a", MIB)})
    return mount("--version", release.version, "--datasets", "annotations")


def test_rates_are_what_happened_between_two_documents():
    metrics = Metrics()
    metrics.add_bytes_served(99)
    metrics.add_result("get", "ok", 9.0)
    before = document(metrics, 10.0)
    metrics.add_bytes_served(4 * MIB, from_cache=3 * MIB)
    metrics.add_bytes_fetched(2 * MIB)
    for _ in range(3):
        metrics.add_hit()
    metrics.add_miss()
    for kind, seconds in (("get", 0.1), ("get", 0.3), ("head", 5.0)):
        metrics.add_request(kind)
        metrics.add_result(kind, "ok", seconds)
    metrics.add_open_files(2)
    metrics.store = "online"
    assert cells(before, document(metrics, 12.0)) == {
        "READ/S": "2.0 MiB",
        "FETCHED/S": "1.0 MiB",
        "HITS": "75 %",
        "REQ/S": "1.5",
        "GET": "200 ms",
        "CACHE": "25 % of 4.0 MiB",
        "OPEN": "2",
        "STATE": "online",
    }


def test_a_mount_that_did_nothing_has_no_share_of_hits():
    found = cells(document(Metrics(), 1.0), document(Metrics(), 2.0))
    assert (found["READ/S"], found["HITS"], found["GET"]) == ("0 B", "-", "-")


@pytest.mark.parametrize("more", [{"pid": 8}, {"uptime_s": 0.5}])
def test_a_mount_that_was_mounted_anew_has_no_rates_yet(more):
    before, now = document(Metrics(), 1.0), document(Metrics(), 2.0)
    now[PLACE] |= more
    assert cells(before, now)["READ/S"] == cells({}, now)["READ/S"] == "-"


def test_a_mount_by_an_older_version_is_shown_without_what_it_does_not_count():
    old = document(Metrics(), 2.0)
    for name in ("durations", "results", "open_files", "read_errors", "metrics_url"):
        del old[PLACE][name]
    found = cells({PLACE: {**old[PLACE], "uptime_s": 1.0}}, old)
    assert (found["READ/S"], found["GET"], found["OPEN"]) == ("0 B", "-", "-")


def test_a_throttled_store_and_the_last_error_are_shown():
    now = document(Metrics(), 1.0, store="online", throttled=True, errors=3, last_error="s3: 503")
    assert cells({}, now)["STATE"] == "throttled"
    assert error_lines(now) == ["/m: 3 errors; s3: 503"]


def answered(done):
    return done if done.returncode == 0 else None


@pytest.mark.fuse
def test_without_a_terminal_one_table_is_printed(root, cli):
    # On a busy machine the mount may not answer in time.
    done = wait_until(lambda: answered(cli("top", str(root), "--interval", "0.1", check=False)))
    header, line, blank, requests, *_ = done.stdout.splitlines()
    assert header.split() == list(HEADER)
    assert line.split()[:5] == [str(root), "0", "B", "0", "B"]
    assert line.split()[-1] == "online"
    assert (blank, requests.split()[-1]) == ("", "RESULT")
    assert str(root) in cli("top", "--interval", "0.1", check=False).stdout


@pytest.mark.fault(
    area="processes",
    fault="`ego4dfs top` beside mounts whose processes are stopped or were killed",
    face="top",
    sees="their state is `no answer` or `dead`, with the remedy; the other mounts are shown",
    deadline="1 s",
)
@pytest.mark.fuse
def test_dead_and_stopped_mounts_are_shown_as_such(root, mount, release, cli):
    arguments = ("--version", release.version, "--datasets", "annotations")
    stopped, dead = mount(*arguments), mount(*arguments)
    kill_mount(dead)
    pid = status(stopped)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = cli("top", *map(str, (root, stopped, dead)), "--interval", "0.1", check=False)
    finally:
        os.kill(pid, signal.SIGCONT)
    states = [" ".join(line.split()[-2:]) for line in done.stdout.splitlines()[2:4]]
    assert (done.returncode, states) == (1, ["no answer", "- dead"])
    assert f"`kill -CONT {pid}` continues it" in done.stdout
    assert f"ego4dfs unmount {dead}" in done.stdout


@pytest.mark.fuse
def test_a_directory_that_is_no_mount_is_refused(cli, tmp_path):
    done = cli("top", str(tmp_path), check=False)
    assert done.returncode == 5
    assert "no ego4dfs is mounted there" in complaint(done)


@pytest.mark.parametrize("interval", ["0", "0.05", "2h", "often", "-1"])
def test_an_interval_is_a_time_between_bounds(cli, interval):
    done = cli("top", f"--interval={interval}", check=False)
    assert done.returncode == 2
    assert "--interval: expected a" in complaint(done)


@contextmanager
def on_terminal(*words):
    """Run the command on a terminal of its own.

    Yields its process, our end of the terminal, a function that returns what it has shown, and one
    that returns whether the terminal is as before.
    """
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    shown = bytearray()

    def text() -> str:
        while select.select([ours], [], [], 0)[0]:
            shown.extend(os.read(ours, 1 << 16))
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())

    process = subprocess.Popen(
        [*EGO4DFS, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "12"},
    )
    try:
        yield process, ours, text, lambda: termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


@pytest.mark.fuse
@pytest.mark.parametrize("end", ["q", "Q", "\x03", "SIGTERM"])
def test_on_a_terminal_the_table_is_kept_current_until_it_is_ended(root, release, end):
    with on_terminal("top", str(root), "--interval", "0.2") as (process, ours, text, is_as_before):
        wait_until(lambda: "0 B" in text())
        assert str(root) in text()
        data = root / release.version / "annotations/a.bin"
        wait_until(lambda: data.read_bytes() and re.search(r"\d [KM]iB +\d.*B +\d+ %", text()))
        os.write(ours, b"x\x1a\x1c")  # other keys, Ctrl-Z and Ctrl-\, do nothing
        if end == "SIGTERM":
            process.terminate()
        else:
            os.write(ours, end.encode())
        assert process.wait(timeout=30) == 0
        assert is_as_before()
        assert "Traceback" not in text()


@pytest.mark.fuse
def test_a_mount_that_ends_meanwhile_is_shown_as_unavailable(root, mount):
    with on_terminal("top", str(root), "--interval", "0.2") as (_, ours, text, _):
        wait_until(lambda: "online" in text())
        mount.unmount(root)
        wait_until(lambda: "unavailable" in text())
        os.write(ours, b"q")


LONG = "/v2/full_scale/" + "0" * 60 + "/a.mp4"
ACTIVITY = {
    "seconds": 2.0,
    "files": [
        {"path": "/v2/b\x1b[31m.mp4", "bytes": MIB, "bytes_missed": MIB},
        {"path": LONG, "bytes": 4 * MIB, "bytes_missed": MIB},
        {"path": "/v2/none", "bytes": 0, "bytes_missed": 0},
    ],
    "requests": [
        {"kind": "head", "url": "s3://b/h", "start": 0, "stop": 0, "seconds": 0.2, "result": "ok"},
        {
            "kind": "get",
            "url": f"s3://name:secret@b{LONG}",
            "start": MIB,
            "stop": 3 * MIB,
            "seconds": 12.34,
            "result": "interrupted",
        },
    ],
}


def active(*activities):
    return {Path(f"/m{n}"): {"activity": one} for n, one in enumerate(activities)}


def test_the_files_that_are_read_most_come_first_from_all_mounts():
    more = {"seconds": 1.0, "files": [{"path": "/x", "bytes": 3 * MIB, "bytes_missed": 0}]}
    assert file_rows({**active(ACTIVITY, more, {}), Path("/old"): {}}) == [
        ("/m1/x", "3.0 MiB", "100 %"),
        (f"/m0{LONG}", "2.0 MiB", "75 %"),
        ("/m0/v2/b\x1b[31m.mp4", "512.0 KiB", "0 %"),
        ("/m0/v2/none", "0 B", "-"),
    ]
    assert len(file_rows(active(*[ACTIVITY] * 3))) == 5


def test_the_slowest_requests_come_first_from_all_mounts_without_passwords():
    assert request_rows(active(ACTIVITY)) == [
        (f"s3://b{LONG}", "get", "1.0 MiB", "2.0 MiB", "12.3 s", "interrupted"),
        ("s3://b/h", "head", "-", "-", "200 ms", "ok"),
    ]
    assert len(request_rows(active(*[ACTIVITY] * 3))) == 5


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_tables_are_no_wider_than_the_terminal(columns):
    wide = document(Metrics(), 3.0, store="key refused")
    tables = [
        (rows({}, {Path(LONG): wide[PLACE]}), HEADER, OPTIONAL),
        (file_rows(active(ACTIVITY)), FILES_HEADER, ()),
        (request_rows(active(ACTIVITY)), REQUESTS_HEADER, REQUESTS_OPTIONAL),
    ]
    for lines, header, optional in tables:
        shown, names = fitted(lines, header, columns, optional)
        widths = [max(map(len, column)) for column in zip(names, *shown, strict=True)]
        assert sum(widths) + 2 * (len(widths) - 1) <= columns
        assert set(header[1:]) - set(optional) == set(names[1:]) - set(optional)
        assert all(cell.isprintable() for row in shown for cell in row)
    assert shown[0][0].endswith("/a.mp4")
    assert ("KIND" in names, "AT" in names) == (columns > 40, columns > 60)


@pytest.mark.fuse
def test_what_is_read_and_its_requests_are_shown(root, release):
    with on_terminal("top", str(root), "--interval", "0.2") as (_, ours, text, _):
        wait_until(lambda: "online" in text())
        (root / release.version / "annotations/a.bin").read_bytes()
        wait_until(lambda: f"{release.version}/annotations/a.bin" in text())
        wait_until(lambda: release.url("annotations/a.bin") in text())
        os.write(ours, b"q")
