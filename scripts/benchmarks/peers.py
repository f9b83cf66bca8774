"""The tools that are compared: where each is installed, and how to install a missing one."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

# scripts/bench installs tools from PyPI here: awscli needs another botocore than ego4dfs.
PEERS = Path(__file__).parents[2] / ".venv-bench"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program; `command` is empty when it is not installed, and `missing` says why."""

    name: str
    command: tuple[str, ...]
    version: str = ""
    missing: str = ""


@cache
def ego4dfs() -> Tool:
    """Return the command of this checkout."""
    return _probe("ego4dfs", (sys.executable, "-m", "ego4dfs"), "--version")


@cache
def official() -> Tool:
    """Return the official downloader."""
    python = PEERS / "bin/python"
    what = "from importlib.metadata import version; import ego4d.cli.cli; print(version('ego4d'))"
    found = _probe("official ego4d", (str(python),), "-c", what, hint="pip install ego4d==1.7.3")
    command = (*found.command, "-m", "ego4d.cli.cli") if found.command else ()
    return Tool(found.name, command, found.version, found.missing)


@cache
def aws() -> Tool:
    """Return the AWS command line."""
    return _probe("aws", (str(PEERS / "bin/aws"),), "--version", hint="pip install awscli")


@cache
def rclone() -> Tool:
    """Return rclone."""
    found = _probe("rclone", ("rclone",), "version", hint="apt-get install rclone")
    # It uses RCLONE_CA_CERT; its AWS library refuses to start with the other variable.
    command = ("/usr/bin/env", "-u", "AWS_CA_BUNDLE", *found.command) if found.command else ()
    return replace(found, command=command)


@cache
def s3fs() -> Tool:
    """Return s3fs-fuse."""
    return _probe("s3fs-fuse", ("s3fs",), "--version", hint="apt-get install s3fs")


@cache
def bindfs() -> Tool:
    """Return bindfs, which passes a local directory through FUSE, in C."""
    return _probe("bindfs", ("bindfs",), "--version", hint="apt-get install bindfs")


@cache
def torch() -> Tool:
    """Return the Python that has torch and this checkout."""
    python = PEERS.with_name(".venv-bench-torch") / "bin/python"
    what = "import torch, ego4dfs.torch; print(torch.__version__)"
    return _probe("torch", (str(python),), "-c", what, hint="pip install torch==2.13.0")


def decord_missing() -> str:
    """Return what to do if the Python package decord is missing, or an empty text."""
    return "" if importlib.util.find_spec("decord") else "missing: pip install decord"


def _probe(name: str, command: tuple[str, ...], *arguments: str, hint: str = "") -> Tool:
    """Return the tool with the first line of its version output."""
    path = shutil.which(command[0])
    if path is None:
        return Tool(name, (), missing=f"missing: {hint}")
    command_line = (path, *command[1:])
    done = subprocess.run(
        [*command_line, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        words = (done.stderr.strip() or "no reason given").splitlines()[-1]
        return Tool(name, (), missing=f"missing: does not start: {words}")
    return Tool(name, command_line, done.stdout.strip().splitlines()[0])
