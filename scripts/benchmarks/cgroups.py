"""A memory cgroup, version 1 or 2, for a process that is measured with less memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import RunError
from benchmarks.measure import text_of
from benchmarks.peers import Tool

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """A cgroup that holds at most so many bytes, page cache included."""

    directory: Path
    killed: Path
    """The file with a line `oom_kill` and how many processes the kernel has ended."""

    def holding(self, tool: Tool) -> Tool:
        """Return a tool that enters the cgroup before it starts."""
        enter = f'echo $$ > "{self.directory}/cgroup.procs" && exec "$@"'
        return replace(tool, command=("/bin/sh", "-c", enter, "sh", *tool.command))

    def check(self) -> None:
        """Raise RunError if the kernel has ended a process for want of memory."""
        counts = dict(line.split() for line in self.killed.read_text().splitlines())
        if int(counts.get("oom_kill", 0)):
            raise RunError(f"ended by the kernel in {self.directory}: {counts['oom_kill']} times")


@contextmanager
def memory_cgroup(limit: int) -> Iterator[MemoryCgroup]:
    """Make a cgroup with at most `limit` bytes until the end of the block. Raises OSError.

    Its processes must have ended by then. Files: cgroup-v1/memory.rst and cgroup-v2.rst of the
    kernel's documentation.
    """
    is_second = "memory" in text_of(_ROOT / "cgroup.controllers").split()
    directory = (_ROOT if is_second else _ROOT / "memory") / f"ego4dfs-bench-{os.getpid()}"
    names = ("memory.max", "memory.events")
    if not is_second:
        names = ("memory.limit_in_bytes", "memory.oom_control")
    directory.mkdir()
    try:
        (directory / names[0]).write_text(str(limit))
        yield MemoryCgroup(directory, directory / names[1])
    finally:
        with suppress(OSError):  # a process is left, whose error must not be hidden
            directory.rmdir()
