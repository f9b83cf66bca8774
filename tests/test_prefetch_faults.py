"""A prefetch with a faulty server, expired keys, missing objects and a full disk."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kit.cli import EGO4DFS
from kit.data import MIB, seeded
from kit.prefetch import data_of, tree
from kit.processes import wait_until
from kit.server import SHARING

FILES = {
    "large.mp4": seeded("large", 60 * MIB + 1),
    "middle.pt": seeded("middle", 3 * MIB + 17),
    **{f"small{i}.pt": seeded(str(i), 20_000 + i) for i in range(60)},
}
SIZE = sum(map(len, FILES.values()))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def start(spawn, release, out):
    """Start a prefetch that the test interrupts."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [*EGO4DFS, "prefetch", "-y", "-o", str(out), "--no-metadata", *arguments]
        command += ["--version", release.version]
        return spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.slow
def test_all_files_arrive_from_a_server_that_fails_often(prefetch, release, front, out):
    """503, truncated bodies, resets and stalls: right files after a bounded number of requests."""
    release.dataset("annotations", FILES)
    front.faults.slow_down_every = 10
    front.faults.reset_every = 20
    front.faults.cut_body_at, front.faults.cut_body_every = 10_000, 10
    front.faults.stall_body_s, front.faults.stall_body_every = 1.0, 50
    prefetch("-y", "--no-metadata")
    assert data_of(tree(out), release, "annotations") == FILES
    assert front.requests < 4 * (len(FILES) * 2 + SIZE // (2 * MIB))
    assert front.bytes_sent < 1.25 * SIZE


def test_the_bytes_of_a_truncated_answer_are_not_fetched_again(prefetch, release, front, out):
    release.dataset("annotations", {"large.mp4": FILES["large.mp4"]})
    front.faults.piece_bytes = 64 << 10
    # A cut costs what the HTTP library has not handed over yet: with aiohttp some 300 KiB.
    front.faults.cut_body_at = 2 * MIB
    prefetch("-y", "--no-metadata")
    assert data_of(tree(out), release, "annotations") == {"large.mp4": FILES["large.mp4"]}
    assert front.bytes_sent < 1.5 * len(FILES["large.mp4"])


@pytest.mark.parametrize("flags", [(), ("--skip-s3-checks",)])
def test_one_missing_object_does_not_stop_the_rest(prefetch, release, out, flags):
    names = {**FILES, "lost.mp4": b""}
    release.dataset("annotations", names)
    _delete(release, "annotations/lost.mp4")
    done = prefetch("-y", "--no-metadata", *flags, code=3)
    found = data_of(tree(out), release, "annotations")
    assert found == FILES
    assert "lost.mp4" in done.stderr
    assert "To retry these files" in done.stderr
    report = json.loads(prefetch("-y", "--no-metadata", *flags, "--json", code=3).stdout)
    assert (report["done"], report["skipped"]) == (0, len(FILES))
    assert report["refused"] + report["missing"] == len(report["problems"]) == 1
    assert report["problems"][0]["path"] == f"{release.version}/annotations/lost.mp4"
    assert report["exit_code"] == 3


def test_a_run_with_only_missing_objects_fails(prefetch, release):
    release.dataset("annotations", {"lost.mp4": b""})
    _delete(release, "annotations/lost.mp4")
    done = prefetch("-y", "--no-metadata", code=4)
    assert "already exist" not in done.stdout
    assert "Missing s3 object (ignored for download): lost | lost.mp4" in done.stdout


def test_the_printed_command_retries_the_failed_files(prefetch, release, out):
    release.dataset("annotations", {"a.json": b"a", "b c.json": b"bc"})
    _delete(release, "annotations/b c.json")
    done = prefetch("-y", "--no-metadata", code=3)
    again = done.stderr.splitlines()[-1].strip()
    assert again.startswith("ego4dfs prefetch")
    release.put("annotations/b c.json", b"here")
    time.sleep(0.1)
    _forget_refusals()
    words = re.sub("^ego4dfs", " ".join(EGO4DFS), again)
    assert subprocess.run(words, shell=True, check=False).returncode == 0  # noqa: S602 - it is meant for a shell
    assert data_of(tree(out), release, "annotations") == {"a.json": b"a", "b c.json": b"here"}


def test_expired_keys_end_a_run_and_renewed_keys_continue_it(
    prefetch, release, front, out, server, start
):
    """Exit code 4, a command to continue, and nothing is fetched twice."""
    files = {**FILES, **{f"video{i}.mp4": seeded(f"v{i}", 60 * MIB) for i in range(3)}}
    size = sum(map(len, files.values()))
    release.dataset("annotations", files)
    front.faults.piece_bytes = 64 << 10
    front.faults.bytes_per_s = 8 * MIB
    process = start()
    wait_until(lambda: front.bytes_sent > size // 3)
    front.faults.rejected_keys = {server.licensee.access_key: "ExpiredToken"}
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 4, stderr
    assert "expired" in stderr
    assert "sign the licence again" in stderr
    assert server.licensee.secret_key not in stderr
    front.faults.rejected_keys = {}
    front.faults.bytes_per_s = 0
    prefetch("-y", "--no-metadata")
    assert data_of(tree(out), release, "annotations") == files
    assert front.bytes_sent < size + 2 * MIB
    assert not _parts(out)


def test_ctrl_c_ends_a_run_at_once_and_prints_how_to_continue(prefetch, release, front, out, start):
    release.dataset("annotations", FILES)
    front.faults.only, front.faults.stall_body_s = "large.mp4", 18.0
    process = start()
    wait_until(lambda: sum("large.mp4" in path for verb, path, _ in front.log if verb == "GET") > 4)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=15)  # though answers are under way for 18 s and more
    assert process.returncode == 130
    assert "To continue:" in stderr
    front.faults.stall_body_s = 0.0
    prefetch("-y", "--no-metadata")
    assert data_of(tree(out), release, "annotations") == FILES


def test_a_full_disk_is_reported_and_the_run_can_be_resumed(prefetch, release, front, small_disk):
    """A clear message and no corrupt file; the run resumes when there is space."""
    release.dataset("annotations", FILES)
    done = prefetch("-y", "--no-metadata", "--skip-s3-checks", "-o", str(small_disk), code=1)
    assert "no space left on device" in done.stderr
    assert "make room" in done.stderr
    found = data_of(tree(small_disk), release, "annotations")
    assert all(FILES[n] == data for n, data in found.items() if not n.endswith(".part"))
    sent = front.bytes_sent
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    prefetch("-y", "--no-metadata", "-o", str(small_disk))
    assert data_of(tree(small_disk), release, "annotations") == FILES
    assert front.bytes_sent - sent < SIZE - 20 * MIB


def test_too_little_room_is_reported_before_a_byte(prefetch, release, front, small_disk):
    release.dataset("annotations", FILES)
    done = prefetch("-y", "--no-metadata", "-o", str(small_disk), code=1)
    assert "are needed, and" in done.stderr
    assert front.bytes_sent < MIB


def test_an_object_replaced_during_a_run_is_copied_in_its_new_version(
    prefetch, release, front, out, start
):
    release.dataset("annotations", {"large.mp4": seeded("old", 200 * MIB)})
    front.faults.piece_bytes = 64 << 10
    front.faults.bytes_per_s = 2 * MIB
    process = start()
    wait_until(lambda: front.bytes_sent > 8 * MIB)
    new = seeded("new", 50 * MIB)
    release.put("annotations/large.mp4", new)
    front.faults.bytes_per_s = 0
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert data_of(tree(out), release, "annotations") == {"large.mp4": new}


def test_no_network_is_reported_as_such(prefetch, release, front):
    release.dataset("annotations", {"a.json": b"content"})
    prefetch("-y", "--no-metadata")
    front.stop()
    done = prefetch("-y", "--no-metadata")  # all is there, and the manifest is kept
    assert "already exist" in done.stdout


def _parts(out: Path) -> list[Path]:
    return [path for path in out.rglob("*.part") if path.is_file()]


def _delete(release, name: str) -> None:
    from kit.stores import s3_client

    key = f"public/{release.version}/objects/{name}"
    s3_client(release.server).delete_object(Bucket=SHARING, Key=key)


def _forget_refusals() -> None:
    """Make the recorded refusals older than the minute for which they are used."""
    import sqlite3

    for path in Path(os.environ["EGO4DFS_CACHE_DIR"]).rglob("facts.sqlite"):
        with sqlite3.connect(path) as db:
            db.execute("UPDATE refusals SET at = at - 61")
