"""The examples of docs/guides/pytorch.md run with the demo's sample, one after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kit.server import environment

pytest.importorskip("torch")

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "pytorch.md"


def test_every_example_runs(sampled, tmp_path, transport):
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=environment(sampled.server, tmp_path / "home", transport),
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(3, 8, 3, 112, 112) torch.float32") == 1
    assert done.stdout.splitlines()[-1].count("1536)") == 3
