"""The cost of a command: wall time, CPU seconds, peak memory, requests and bytes on the wire."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import RunError
from benchmarks.proxy import Counts
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

_TICK_S = 0.05  # a sample costs the measured tools about 1 ms of a core
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CLOCK_HZ = os.sysconf("SC_CLK_TCK")
_SHOWN_CHARS = 400


@dataclass(frozen=True, slots=True)
class Usage:
    """The time and memory of a run."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


class Meter:
    """Watches a process and its descendants from entry to exit of the `with` block.

    `peak_bytes` is the largest sampled sum of resident memory, and at least the kernel's own
    high-water mark of each process. `cpu_s` is their CPU time since entry; it includes children
    that have ended and were reaped by their parent.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak_bytes = 0
        self._cpu_before = cpu_seconds(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"meter of {pid}", daemon=True)

    @property
    def cpu_s(self) -> float:
        """CPU seconds since entry; call it while the process runs."""
        return cpu_seconds(self.pid) - self._cpu_before

    def __enter__(self) -> Meter:  # noqa: PYI034 - typing.Self needs 3.11
        """Start watching."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching, after a last sample."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            found = family(self.pid)
            total = sum(_resident(pid) for pid in found)
            largest = max((_high_water(pid) for pid in found), default=0)
            self.peak_bytes = max(self.peak_bytes, total, largest)
            if self._over.wait(_TICK_S):
                return


class Metered:
    """A process whose cost is measured, with the server that it reads from; `pid` may be set later.

    Only the traffic of a shape that counts is known.
    """

    def __init__(self, servers: Servers, shape: str, pid: int = 0) -> None:
        self._servers = servers
        self.shape = shape
        self.pid = pid

    def meter(self) -> Meter:
        """Return a meter of the process, with its children."""
        return Meter(self.pid)

    def settled(self) -> Counts | None:
        """Return requests and bytes so far, once they stay the same; None without the proxy."""
        before = self._servers.counts(self.shape)
        while before is not None:
            time.sleep(0.1)
            after = self._servers.counts(self.shape)
            if after is None or after == before:
                break
            before = after
        return before


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    directory: Path | None = None,
    timeout_s: float = 600.0,
) -> Usage:
    """Run a command to its end and return its usage; its output goes to `log`.

    Raises RunError if it does not end with 0, or not in time.
    """
    with log.open("wb") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        late = threading.Event()
        timer = threading.Timer(timeout_s, _stop, (process.pid, late))
        timer.start()
        try:
            with Meter(process.pid) as meter:
                _, status, usage = os.wait4(process.pid, 0)
                wall_s = time.perf_counter() - begin
        except BaseException:
            _kill_group(process.pid)
            raise
        finally:
            timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if late.is_set():
        raise RunError(f"{Path(command[0]).name} did not end within {timeout_s:.0f} s")
    if process.returncode:
        output_end = log.read_text(errors="replace").strip()[-_SHOWN_CHARS:]
        raise RunError(f"{Path(command[0]).name} ended with {process.returncode}: {output_end}")
    return Usage(wall_s, usage.ru_utime + usage.ru_stime, meter.peak_bytes)


def family(pid: int) -> list[int]:
    """Return a process and all its descendants, except those that have just ended."""
    found = [pid]
    for parent in found:  # grows during the loop
        try:
            threads = list(Path(f"/proc/{parent}/task").iterdir())
        except FileNotFoundError:
            continue
        for thread in threads:
            found += map(int, text_of(thread / "children").split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process, its descendants and its reaped children so far."""
    return sum(_ticks(member) for member in family(pid)) / _CLOCK_HZ


def _ticks(pid: int) -> int:
    # The name, in brackets, may have spaces; utime, stime, cutime and cstime are fields 14 to 17.
    fields = text_of(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _resident(pid: int) -> int:
    fields = text_of(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * _PAGE_BYTES if fields else 0


def _high_water(pid: int) -> int:
    for line in text_of(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def text_of(path: Path) -> str:
    """Return the text of a file of the kernel, or an empty text if it cannot be read."""
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


def _stop(pid: int, late: threading.Event) -> None:
    late.set()
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def sample(
    servers: Servers,
    shape: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    timeout_s: float = 600.0,
) -> dict[str, float]:
    """Run a command to its end and return the values of `COLUMNS`.

    Requests and bytes are set if the shape counts them. Raises RunError as `measure.run`.
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
