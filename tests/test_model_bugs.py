"""The state machine of ego4dfs.testing finds bugs that are planted into the product."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit.model_bugs import BUGS

pytestmark = pytest.mark.first_pass

TESTS = Path(__file__).parent


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug):
    """In a process of its own, which no other test has used."""
    done = subprocess.run(
        [sys.executable, "-m", "kit.model_bugs", bug],
        env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "AssertionError" in done.stderr
