"""The examples of docs/guides/sharing.md run with the demo's sample."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kit.guides import examples, run_example
from kit.server import environment

pytestmark = pytest.mark.first_pass

GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "sharing.md"


def test_every_example_runs_and_prints_what_the_text_says(sampled, tmp_path, transport):
    printed = []
    for language, code in examples(GUIDE):
        env = environment(sampled.server, tmp_path / "home", transport)
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        if "import" in code:
            env["EGO4DFS_CACHE_DIR"] = str(tmp_path / "another machine")
        printed.append(run_example(language, code, tmp_path, env))
    lines = [line for text in printed for line in text.splitlines()]
    assert len(lines) == 7
    text = GUIDE.read_text()
    for line in lines:
        assert line.removeprefix(str(tmp_path)).partition(", exported")[0] in text
