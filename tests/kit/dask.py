"""A Dask cluster of processes on this machine, with workers on several hosts: 127.0.0.1, .2, ..."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kit.processes import wait_until

WITHOUT_KEYS = """
import os, distributed
from distributed.protocol import pickle
submit = distributed.Client.submit
def checked(self, function, *arguments, **how):
    sent = pickle.dumps((function, arguments, how))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert os.environ[name].encode() not in sent, name
    return submit(self, function, *arguments, **how)
distributed.Client.submit = checked
"""
"""Code for the command's process, which then fails if a task has its key."""


def command(*arguments: str, code: str = WITHOUT_KEYS) -> list[str]:
    """Return a command line of ego4dfs that runs `code` first."""
    begin = f"{code}\nfrom ego4dfs.cli import main; raise SystemExit(main())"
    return [sys.executable, "-c", begin, *arguments]


_QUIET: Mapping[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@dataclass
class Cluster:
    """A scheduler, and a function that starts a worker."""

    address: str
    scheduler: subprocess.Popen[Any]
    start: Callable[..., subprocess.Popen[Any]]

    def worker(
        self, host: str = "127.0.0.1", *, within: Sequence[str] = (), **variables: str
    ) -> subprocess.Popen[Any]:
        """Start a worker at an address, by the first words `within` of another command."""
        module = [sys.executable, "-m", "distributed.cli.dask_worker", self.address]
        how = ["--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--death-timeout", "60"]
        command = [*within, *module, "--host", host, "--no-dashboard", *how]
        return self.start(command, env={**os.environ, **variables}, **_QUIET)

    def wait(self, workers: int) -> None:
        """Wait until so many workers are there."""
        code = (
            "from distributed import Client\n"
            f"with Client({self.address!r}) as client: client.wait_for_workers({workers}, 60)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.fixture
def dask_cluster(spawn: Callable[..., subprocess.Popen[Any]], tmp_path: Path) -> Cluster:
    """A scheduler without workers."""
    known = tmp_path / "scheduler.json"
    module = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    where = ["--host", "127.0.0.1", "--no-dashboard", "--port", "0", "--scheduler-file", str(known)]
    scheduler = spawn([*module, *where], **_QUIET)
    return Cluster(address_in(known), scheduler, spawn)


def address_in(file: Path) -> str:
    """Return the address that a scheduler writes to a file, once all of it is there."""
    wait_until(lambda: file.exists() and file.read_text().rstrip().endswith("}"))
    address: str = json.loads(file.read_text())["address"]
    return address
