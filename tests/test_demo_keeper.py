"""The command waits while the demo's keeper makes progress, and shows why it failed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

import pytest

from ego4dfs.demo import keeper
from ego4dfs.errors import Ego4DError
from kit.processes import wait_until

WORK = (
    "import time\n"
    "for number in range(30):\n"
    "    open('media/x', 'ab').write(b'x' * 10)\n"
    "    time.sleep(0.1)\n"
    "raise SystemExit('no room for the last one')\n"
)


@contextmanager
def running(directory, program):
    """Run a program in place of the keeper."""
    (directory / "media").mkdir()
    with (directory / "keeper.log").open("wb") as log:
        command = [sys.executable, "-c", program]
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
    try:
        wait_until((directory / "media/x").exists)  # Python starts slowly on a busy machine
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_command_waits_for_a_slow_keeper_and_shows_its_last_line(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "STALL_S", 1.5)
    with running(tmp_path, WORK) as process:
        with pytest.raises(Ego4DError) as caught:
            keeper._await(tmp_path, process)
        assert "did not start: no room for the last one" in str(caught.value)


def test_a_keeper_without_progress_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "STALL_S", 0.3)
    with (
        running(tmp_path, "import time; open('media/x', 'ab'); time.sleep(60)") as process,
        pytest.raises(Ego4DError, match="made no progress"),
    ):
        keeper._await(tmp_path, process)
