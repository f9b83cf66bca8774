"""The recorder of a mount: a line a minute, in private files of bounded size and number."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from ego4dfs.metrics import Metrics
from ego4dfs.mount import recorder as recorder_module
from ego4dfs.mount.recorder import MAX_AGE_S, MAX_FILES, Recorder, remove_old
from kit.data import MIB, seeded
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def recorder(metrics, tmp_path) -> Recorder:
    def status():
        return {**metrics.snapshot(), "cache_bytes": 5, "cache_limit_bytes": MIB}

    return Recorder(tmp_path, Path("/m"), status, metrics.patterns.snapshot)


def is_running():
    return "recorder" in {thread.name for thread in threading.enumerate()}


def lines(directory):
    return [
        json.loads(line)
        for path in sorted(directory.glob("counters/*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_a_line_has_the_counters_and_idle_minutes_have_none(recorder, metrics, tmp_path):
    recorder._prepare()
    recorder.record()
    assert lines(tmp_path) == []
    metrics.add_bytes_served(10, from_cache=3)
    metrics.add_request("get")
    metrics.add_result("get", "ok", 0.1)
    metrics.add_result("head", "denied", 0.1)
    metrics.add_read_error("open")
    metrics.patterns.opened(1, "/v2/clips/a.mp4", 10)
    metrics.patterns.read(1, 0, 10)
    recorder.record()
    recorder.record()
    (found,) = lines(tmp_path)
    assert found["mountpoint"] == "/m"
    assert found["mount"].startswith(f"{os.getpid()}@")
    counters = {name: count for name, count in found["counters"].items() if count}
    assert counters == {
        "bytes_served": 10,
        "bytes_from_cache": 3,
        "requests": 1,
        "read_errors": 1,
    }
    assert found["results"] == {"ok": 1, "denied": 1}
    assert found["patterns"] == {"clips": {"whole files": {"opens": 1, "bytes": 10}}}
    assert (found["cache_bytes"], found["cache_limit_bytes"]) == (5, MIB)


def test_the_files_are_private_and_bounded(recorder, metrics, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder_module, "MAX_FILE_BYTES", 2000)
    recorder._prepare()
    for _ in range(40):
        metrics.add_bytes_served(1)
        recorder.record()
    directory = tmp_path / "counters"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = sorted(directory.iterdir())
    assert ".1" in {path.suffix for path in files} <= {".jsonl", ".1"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert sum(path.stat().st_size for path in files) < 6000


def test_old_files_and_those_that_are_too_many_are_removed(tmp_path):
    for number in range(MAX_FILES + 5):
        path = tmp_path / f"{number}.jsonl"
        path.touch()
        os.utime(path, (0, path.stat().st_mtime - number))
    os.utime(tmp_path / "3.jsonl", (0, path.stat().st_mtime - MAX_AGE_S))
    (tmp_path / "other").touch()
    remove_old(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"other", *(f"{n}.jsonl" for n in range(MAX_FILES + 1) if n != 3)}


def test_a_directory_that_cannot_be_written_is_logged_and_ends_nothing(
    recorder, metrics, tmp_path, caplog
):
    (tmp_path / "counters").write_text("")
    metrics.add_bytes_served(1)
    recorder.start()
    recorder.close()
    assert "the counters cannot be recorded" in caplog.text
    assert not is_running()


def test_a_link_in_the_place_of_a_file_is_not_followed(recorder, metrics, tmp_path):
    recorder._prepare()
    target = tmp_path / "target"
    target.touch()
    recorder._path.symlink_to(target)
    metrics.add_bytes_served(1)
    with pytest.raises(OSError, match="symbolic links"):
        recorder.record()
    assert target.read_bytes() == b""


def test_the_end_of_a_mount_is_recorded(recorder, metrics, tmp_path):
    recorder.start()
    metrics.add_bytes_served(1)
    recorder.close()
    wait_until(lambda: not is_running())
    assert [one["counters"]["bytes_served"] for one in lines(tmp_path)] == [1]


@pytest.mark.fuse
def test_a_mount_records_and_report_shows_it_after_the_unmount(mount, release, cli, tmp_path):
    release.metadata(b"{}")
    release.dataset("annotations", {"a.bin": seeded("a", 3 * MIB)})
    root = mount("--version", release.version, "--datasets", "annotations")
    (root / release.version / "annotations/a.bin").read_bytes()
    mount.unmount(root)
    found = wait_until(
        lambda: json.loads(cli("report", str(root), "--json").stdout)["counters"] or None
    )
    assert (found["bytes_served"], found["bytes_fetched"]) == (3 * MIB, 3 * MIB)
    text = cli("report").stdout
    assert str(root) in text
    assert "annotations  whole files      1  3.0 MiB   3.0 MiB" in text
    assert "nothing was recorded" in cli("report", str(tmp_path / "other")).stdout
