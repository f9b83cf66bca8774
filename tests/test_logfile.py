"""The log of a background mount is bounded, also with output of programs and C libraries."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from ego4dfs.mount.logfile import BURST, RepeatFilter
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
