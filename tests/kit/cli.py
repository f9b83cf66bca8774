"""The `ego4dfs` command as a user runs it, and what it writes to stderr."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ego4dfs.cli import main

EGO4DFS = [sys.executable, "-m", "ego4dfs"]


def run_cli(
    *arguments: str, env: Mapping[str, str] | None = None, check: bool = True, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `ego4dfs` as a user does; with `check`, its exit code must be 0."""
    done = subprocess.run(
        [*EGO4DFS, *arguments],
        env=dict(env) if env is not None else None,
        capture_output=True,
        errors="surrogateescape",  # as os.fsdecode: names of other mounts need not be UTF-8
        check=False,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    if check:
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run `ego4dfs` in this process, which takes no seconds to start; as `run_cli`."""

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main(arguments)
        text = capsys.readouterr()
        if check:
            assert code == 0, f"{arguments}: {text.err}"
        return subprocess.CompletedProcess(arguments, code, text.out, text.err)

    return run


@pytest.fixture
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_cli


def unwarned(stderr: str) -> str:
    """Return stderr of a command without the warning about the test's unknown version."""
    return "".join(line for line in stderr.splitlines(True) if "; using it anyway" not in line)


def complaint(done: Any) -> str:
    """Return stderr of a command that failed as it should: one or two lines, and no traceback."""
    lines = unwarned(done.stderr).splitlines()
    assert "Traceback" not in done.stderr, done.stderr
    assert 1 <= len(lines) <= 2, done.stderr
    assert lines[0].startswith("ego4dfs: "), done.stderr
    assert all(re.match(r"(ego4dfs|  hint): \S", line) for line in lines), done.stderr
    assert done.stdout == ""
    return done.stderr


def without(variables: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return an environment without some of its variables."""
    return {name: value for name, value in variables.items() if name not in names}
