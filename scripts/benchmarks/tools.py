"""One run of a tool as a sample: time, CPU, memory, requests and bytes on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import run
from benchmarks.row import Column
from benchmarks.servers import Servers

MIB = 1 << 20
COLUMNS = (
    Column("wall_s", "wall s", spread=True),
    Column("cpu_s", "CPU s"),
    Column("peak_mib", "peak MiB", digits=0),
    Column("requests", "requests", digits=0),
    Column("wire_mib", "MiB on the wire", digits=1),
)


def sample(
    servers: Servers,
    shape: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    timeout_s: float = 600.0,
) -> dict[str, float]:
    """Run a command to its end and return the values of `COLUMNS`.

    Requests and bytes are there where the shape counts them. Raises RunError as `measure.run`.
    """
    before = servers.counts(shape)
    log: Path = servers.directory / "tool.log"
    usage = run(
        command,
        environment=environment,
        log=log,
        directory=servers.directory,
        timeout_s=timeout_s,
    )
    found = {
        "wall_s": usage.wall_s,
        "cpu_s": usage.cpu_s,
        "peak_mib": usage.peak_bytes / MIB,
    }
    after = servers.counts(shape)
    if before and after:
        passed = after.since(before)
        found |= {"requests": passed.requests, "wire_mib": passed.sent / MIB}
    return found
