"""The log of a background mount is bounded, also with output of programs and C libraries."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from datetime import datetime

import pytest

from ego4dfs.mount.logfile import BURST, RepeatFilter
from kit.cli import EGO4DFS, unwarned
from kit.mounts import status

WRITER = """
import logging, os, sys
from pathlib import Path
from ego4dfs.mount.logfile import LogFile, log_to
log_to(LogFile(Path(sys.argv[1]), max_bytes=20_000))
log = logging.getLogger("ego4dfs.x")
for number in range(300):
    log.info("%s", "x" * 200)
    exec(compile(chr(10) * number + "log.info('from another place: %s', 'y' * 200)", "f", "exec"))
    os.write(2, b"a C library\\n")
os.write(2, b"last words\\n")
"""


def record(number=0, line=1):
    return logging.LogRecord("ego4dfs.x", logging.INFO, "f.py", line, "refused %d", (number,), None)


@pytest.mark.fault(
    area="disk",
    fault="a log line for each of very many failures",
    face="mount",
    sees="the log takes 2 MiB at most; repeats are counted",
    deadline="at once",
)
def test_a_log_and_its_predecessor_are_bounded_and_receive_stderr(tmp_path):
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=True, timeout=60)
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    assert all(file.stat().st_size < 21_000 for file in tmp_path.iterdir())
    assert path.read_text().endswith("a C library\nlast words\n")


def test_a_special_file_is_never_renamed(tmp_path):
    subprocess.run([sys.executable, "-c", WRITER, "/dev/null"], check=True, timeout=60)
    assert not os.path.isfile("/dev/null")
    assert not os.path.exists("/dev/null.1")


def test_repeats_of_one_place_are_counted_and_other_lines_are_written(monkeypatch):
    now_s = 1000.0
    monkeypatch.setattr("ego4dfs.mount.logfile.time.monotonic", lambda: now_s)
    repeats = RepeatFilter(burst=3, period_s=60)
    records = [record(number) for number in range(10)]
    assert [repeats.filter(one) for one in records] == [True] * 3 + [False] * 7
    assert records[1].getMessage() == "refused 1"
    assert (
        records[2].getMessage()
        == "refused 2 (further lines like this within a minute are only counted)"
    )
    assert repeats.filter(record(line=2))
    now_s += 61
    late = record(11)
    assert repeats.filter(late)
    assert late.getMessage() == "refused 11 (7 lines like this were dropped)"


@pytest.mark.fuse
def test_many_refused_opens_write_few_lines(mount, release, tmp_path):
    urls = "".join(f"u{n},file,{release.url(f'none{n}.bin')}\n" for n in range(BURST + 30))
    release.manifest("annotations", f"video_uid,type,s3_path\n{urls}")
    log = tmp_path / "log"
    root = mount(
        *("--version", release.version, "--datasets", "annotations", "--log-file", str(log))
    )
    directory = root / release.version / "annotations"
    for name in os.listdir(directory):
        if name.endswith(".bin"):
            with pytest.raises(OSError, match=name):
                (directory / name).read_bytes()
    assert status(root)["errors"] >= BURST
    assert log.read_text().count("cannot be opened") <= BURST


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_json_log_has_an_escaped_object_for_each_record(tmp_path):
    path = tmp_path / "log"
    code = WRITER.replace("max_bytes=20_000", "log_format='json'")
    code = code.partition("for number")[0] + (
        "log.info('a %s', 'http://user:secret@host/\\n\\u202e')\n"
        "try: int('x')\n"
        "except ValueError: log.exception('failed')\n"
        "for number in range(60): log.warning('again %d', number)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    first, second, *others = lines_of(path.read_text())
    assert list(first) == ["time", "level", "logger", "message", "pid"]
    assert (first["level"], first["logger"]) == ("INFO", "ego4dfs.x")
    assert first["message"] == "a http://host/\\n\\u202e"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert datetime.fromisoformat(first["time"].replace("Z", "+00:00")).timestamp() <= time.time()
    assert second["message"] == "failed"
    assert second["traceback"].startswith("  Traceback")
    assert second["traceback"].endswith("'x'")
    assert len(others) == BURST
    assert others[-1]["message"].endswith(
        "(further lines like this within a minute are only counted)"
    )
    assert {one["pid"] for one in others} == {first["pid"]}


@pytest.mark.fuse
def test_the_log_of_a_mount_can_be_json(mount, release, tmp_path, monkeypatch):
    release.dataset("annotations", {"a.bin": b"x"})
    log = tmp_path / "log"
    monkeypatch.setenv("EGO4DFS_LOG_FORMAT", "json")
    root = mount(
        *("--version", release.version, "--datasets", "annotations", "--log-file", str(log))
    )
    pid = status(root)["pid"]
    mount.unmount(root)
    found = lines_of(log.read_text())
    assert f"mounting {root} with libfuse" in found[0]["message"]
    assert {one["pid"] for one in found} == {pid}


@pytest.mark.fuse
def test_a_mount_in_the_foreground_writes_json_to_stderr(mount, release, tmp_path, libfuse):
    release.dataset("annotations", {"a.bin": b"x"})
    mountpoint = tmp_path / "here"
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    words = ["mount", str(mountpoint), "--foreground", "--libfuse", libfuse, "--log-format=json"]
    words += ["--version", release.version, "--datasets", "annotations"]
    with subprocess.Popen(
        [*EGO4DFS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("Ego4D is at ")
        process.terminate()
        err = process.communicate(timeout=30)[1]
    found = [one["message"] for one in lines_of(unwarned(err))]
    assert f"mounting {mountpoint} with libfuse {libfuse}" in found
    assert "SIGTERM: unmounting" in found
