"""Examples in pages of the documentation, run as a reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_EXAMPLE = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(page: Path) -> list[tuple[str, str]]:
    """Return language and code of the examples in a page, in order."""
    return _EXAMPLE.findall(page.read_text())


def run_example(language: str, code: str, here: Path, env: Mapping[str, str]) -> str:
    """Run an example in a directory, which must succeed; return what it prints."""
    line = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(
        line, cwd=here, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
