"""The examples of docs/guides/python.md run with the demo's sample, one after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ego4dfs.api.tables import CLIP_COLUMNS, VIDEO_COLUMNS, WINDOW_COLUMNS
from kit.server import environment

pytestmark = pytest.mark.first_pass

GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "python.md"


def test_every_example_runs_and_prints_what_the_text_says(sampled, tmp_path, transport):
    env = environment(sampled.server, tmp_path / "home", transport)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first == "(60, 144, 256, 3) uint8"
    assert f"```text\n{first}\n```" in GUIDE.read_text()
    assert others.count("45 Where was the knife before I took it?") == 3
    assert "45 pictures" in others


def test_every_column_is_in_the_table():
    named = set(re.findall(r"`(\w+)`", GUIDE.read_text()))
    assert named >= {*VIDEO_COLUMNS, *CLIP_COLUMNS, *WINDOW_COLUMNS, "row", "problem"}
