"""Windows that processes of their own decode, and what it costs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import workers
from benchmarks.mount_video import Films
from benchmarks.servers import Servers
from benchmarks.workers import Workers

_COMMAND = (sys.executable, "-m", "benchmarks.window_worker")
_SCRIPTS = Path(__file__).parents[1]

Job = Mapping[str, Any]
Window = tuple[str, int, int]
"""Where the file is, where the window begins in the video, and where the file begins in it."""


def job(films: Films, reader: str, windows: Sequence[Window], **options: object) -> Job:
    """Return the job of a process; `reader` is one of `window_worker.READERS`."""
    clip = asdict(films.clip)
    return {"reader": reader, "options": options, "clip": clip, "windows": windows}


@contextmanager
def started(servers: Servers, jobs: Sequence[Job]) -> Iterator[Workers]:
    """Start a process for each job, far from the server; their cache is `Servers.empty("cache")`.

    Raises RunError as `workers.started`.
    """
    environment = servers.environment("wan", servers.directory / "runs/cache")
    path = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(_SCRIPTS)]))
    with workers.started(_COMMAND, jobs, {**environment, "PYTHONPATH": path}) as running:
        yield running
