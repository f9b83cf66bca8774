"""Schedules of threads: a short form of `scripts/schedules`, and the bugs that it must find."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def explore(*arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "schedules", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.first_pass
@pytest.mark.parametrize("name", ["downloads", "window", "block_cache", "facts_index"])
def test_no_schedule_breaks_a_promise(name):
    print(explore("100", "--only", f"{name}."))


@pytest.mark.first_pass
@pytest.mark.parametrize("name", ["downloads", "window", "block_cache", "facts_index"])
def test_each_seeded_bug_is_found(name):
    found = explore("2000", "--bugs", "--only", f"{name}.")
    assert "schedules: " in found
