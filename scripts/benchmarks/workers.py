"""Processes that begin their work together: each has a job in JSON, and answers in JSON.

A process reads its job from the first line of stdin, prints `ready`, waits for the second line,
works, prints its answer, and ends when stdin is closed.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, cast

from benchmarks import RunError

_TIMEOUT_S = 300.0


class Workers:
    """Running processes that are ready; `pids` are in the order of their jobs."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self.pids = [process.pid for process in processes]

    def work(self) -> list[dict[str, Any]]:
        """Let all begin, and return their answers. Raises RunError if one of them fails."""
        for process in self._processes:
            _write_line(process, "go")
        return [json.loads(_read_line(process)) for process in self._processes]


@contextmanager
def started(
    command: Sequence[str],
    jobs: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Workers]:
    """Start a process for each job, and wait until all are ready; they have ended at the exit.

    Raises RunError if one of them fails.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(_process(command, job, environment)) for job in jobs]
        for process in processes:
            _read_line(process)
        yield Workers(processes)


@contextmanager
def _process(
    command: Sequence[str], job: Mapping[str, Any], environment: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = threading.Timer(_TIMEOUT_S, process.kill)
    try:
        watch.start()  # a mount that hangs would block its reader forever
        _write_line(process, json.dumps(job))
        yield process
        process.communicate(timeout=_TIMEOUT_S)
    finally:
        watch.cancel()
        process.kill()
        process.communicate()


def _write_line(process: subprocess.Popen[str], text: str) -> None:
    stream = cast("IO[str]", process.stdin)
    stream.write(text + "\n")
    stream.flush()


def _read_line(process: subprocess.Popen[str]) -> str:
    line = cast("IO[str]", process.stdout).readline()
    if not line:
        words = cast("IO[str]", process.stderr).read().strip().splitlines() or [
            "it ended without a message"
        ]
        raise RunError(f"reading failed: {words[-1]}")
    return line
