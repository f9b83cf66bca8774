"""The examples of docs/guides/windows.md run with the demo's sample."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from kit.guides import examples, run_example
from kit.server import environment

pytestmark = pytest.mark.first_pass

GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "windows.md"
PROGRAMS = Path(sys.executable).parent


def test_every_example_runs_and_writes_what_the_text_says(sampled, tmp_path, transport):
    env = environment(sampled.server, tmp_path / "home", transport)
    env["PATH"] = f"{PROGRAMS}{os.pathsep}{env['PATH']}"
    here = tmp_path / "here"
    here.mkdir()
    printed = [run_example(*example, here, env) for example in examples(GUIDE)]
    sizes = re.compile(r": 2 s, [\d.]+ KiB written, [\d.]+ MiB fetched; the video has 25.6 MiB")
    assert sizes.search(printed[0])
    assert sizes.search(GUIDE.read_text())
    assert "60 pictures of (144, 256, 3)\n" in printed
    assert "60 pictures of a window\n" in printed
    assert "60 pictures, and none before them\n" in printed
    many = re.compile(
        r"clips: 3 clips, 4\.5 s, [\d.]+ MiB written, [\d.]+ MiB fetched in [\d.]+ s\."
    )
    assert any(map(many.search, printed))
    assert many.search(GUIDE.read_text())
    plan = "3 windows of 2 videos, 4.5 s: 2.6 MiB of 29.9 MiB are needed,"
    assert any(plan in text for text in printed)
    assert plan in GUIDE.read_text()
    assert len(list((here / "clips").iterdir())) == 3
