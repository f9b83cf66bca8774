"""Standard streams that are closed, full or gone do not affect the work."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys

import pytest

from ego4dfs.cli.prefetch_printer import PrefetchPrinter
from ego4dfs.cli.streams import OutputLost, Stream
from ego4dfs.errors import ConfigError
from ego4dfs.prefetch import Plan
from kit.cli import EGO4DFS
from kit.data import seeded
from kit.prefetch import data_of, tree

FILES = {f"{name}.bin": seeded(name, 100_000) for name in "abc"}


def shell(line: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line.replace("ego4dfs", shlex.join(EGO4DFS), 1)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        **settings,
    )


@pytest.mark.fault(
    area="terminal",
    fault="standard streams that are closed, full, or a pipe without a reader",
    face="prefetch",
    sees="copying continues to its end; the exit code is that of the copy",
    deadline="none: nothing waits",
)
@pytest.mark.parametrize(
    "how",
    [
        ">/dev/full 2>&1",
        "<&- >&- 2>&-",
        "2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}",
        "| true; exit ${PIPESTATUS[0]}",
    ],
)
def test_copying_does_not_end_with_the_streams(how, release, front, tmp_path):
    release.dataset("annotations", FILES)
    line = f"ego4dfs prefetch -y -o out --no-metadata --version {release.version} {how}"
    done = shell(line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert data_of(tree(tmp_path / "out"), release, "annotations") == FILES


@pytest.mark.fault(
    area="terminal",
    fault="the terminal is closed during a run that ignores SIGHUP",
    face="prefetch",
    sees="copying continues to its end; the exit code is that of the copy",
    deadline="none: nothing waits",
)
def test_copying_continues_after_its_terminal_is_closed(release, front, tmp_path, spawn):
    release.dataset("annotations", FILES)
    words = f"prefetch -y -o out --no-metadata --version {release.version}"
    ours, theirs = os.openpty()
    process = spawn(
        ["sh", "-c", f'trap "" HUP; exec {shlex.join(EGO4DFS)} {words}'],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    assert os.read(ours, 1)
    os.close(ours)
    assert process.wait(60) == 0
    assert data_of(tree(tmp_path / "out"), release, "annotations") == FILES


@pytest.mark.fault(
    area="terminal",
    fault="standard output is full or closed",
    face="ls, status, verify, cache",
    sees="one line that says so, and exit code 1",
    deadline="at once",
)
@pytest.mark.parametrize(
    ("how", "why"), [(">/dev/full", "no space left on device"), (">&-", "bad file descriptor")]
)
def test_requested_output_that_cannot_be_printed_is_a_failure(how, why):
    for command in ("status --json", "--help", "ls --list-datasets"):
        done = shell(f"ego4dfs {command} {how}")
        assert (done.returncode, done.stderr) == (1, f"ego4dfs: standard output: {why}\n")


def test_a_reader_that_closes_the_pipe_causes_no_error():
    done = shell("ego4dfs --help | true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) in ((0, ""), (128 + signal.SIGPIPE, ""))


@pytest.mark.parametrize("flags", [("--json",), ("--dry-run",)])
def test_a_requested_report_that_is_lost_is_an_error(flags, release, front, tmp_path):
    release.dataset("annotations", FILES)
    words = shlex.join(flags)
    line = f"ego4dfs prefetch -y -o out --no-metadata --version {release.version} {words}"
    done = shell(f"{line} >/dev/full", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("ego4dfs: standard output: no space left on device\n")
    came = data_of(tree(tmp_path / "out"), release, "annotations")
    assert came == (FILES if "--json" in flags else {})


def test_a_prompt_without_a_terminal_is_refused(release, front, tmp_path):
    release.dataset("annotations", FILES)
    line = f"ego4dfs prefetch -o out --no-metadata --version {release.version} <&-"
    done = shell(line, cwd=tmp_path)
    assert done.returncode == 2
    assert "hint: use -y to fetch without asking" in done.stderr


def test_closed_streams_keep_their_numbers_free_of_files():
    script = (
        "import os; from ego4dfs.cli import streams\n"
        "with streams.standard_streams():\n"
        "    opened = os.open('/', os.O_RDONLY)\n"
        "os._exit(opened)"
    )
    line = 'exec "$1" -c "$2" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", line, "sh", EGO4DFS[0], script], check=False, timeout=60)
    assert done.returncode > 2


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_undecodable_text_is_printed_as_its_bytes(encoding):
    script = (
        "from ego4dfs.cli import streams\nwith streams.standard_streams(): print('a\\udcff\u2026')"
    )
    done = subprocess.run(
        [EGO4DFS[0], "-c", script],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=60,
    )
    more = "\u2026".encode() if encoding == "utf-8" else b"\\u2026"
    assert done.stdout == b"a\xff" + more + b"\n"


def test_a_stream_drops_what_follows_its_first_failure(tmp_path):
    with open("/dev/full", "w") as full:
        stream = Stream(full, is_result=False)
        for _ in range(3):
            assert print("x", file=stream, flush=True) is None
        stream.write_result("y")
        assert stream.lost is not None
    with open("/dev/full", "w") as full, pytest.raises(OutputLost):
        print("x", file=Stream(full, is_result=True), flush=True)


def test_an_undecodable_answer_counts_as_none(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8"))
    printer = PrefetchPrinter(as_json=False, quiet=False, out=tmp_path)
    with pytest.raises(ConfigError, match="stdin is closed, cannot ask for confirmation"):
        printer.confirms(Plan([]))
