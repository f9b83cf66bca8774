"""What mount tests share: data that can be checked anywhere, live counters, and what is running."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ego4dfs.demo.server import S3Server

MIB = 1 << 20
CLEANED = ("AWS_", "EGO4DFS_", "XDG_")


class Seeded:
    """Endless bytes that a name decides, different in every MiB; any part of them is cheap."""

    def __init__(self, name: str) -> None:
        self._tile = hashlib.shake_256(name.encode()).digest(MIB + 4096)

    def part(self, offset: int, size: int) -> bytes:
        """Return the bytes [offset, offset + size)."""
        first, start = divmod(offset, MIB)
        stop = -(-(offset + size) // MIB)
        tiles = (self._tile[i * 7 % 4096 : i * 7 % 4096 + MIB] for i in range(first, stop))
        return b"".join(tiles)[start : start + size]


def seeded(name: str, size: int) -> bytes:
    """Return the first `size` bytes of those that `name` decides."""
    return Seeded(name).part(0, size)


def read_whole(fd: int, size: int, offset: int) -> bytes:
    """Return `size` bytes, asked for again where the kernel gave fewer; short at an end of file.

    The kernel answers with the pages that it has before it reports the error of the next one.
    """
    data = b""
    while len(data) < size and (piece := os.pread(fd, size - len(data), offset + len(data))):
        data += piece
    return data


def environment(server: S3Server, home: Path, transport: str, **more: str) -> dict[str, str]:
    """Return the environment of a licensee with an empty home and a cache of its own."""
    home.mkdir(exist_ok=True)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(CLEANED)}
    return {
        **plain,
        **server.environment(server.licensee),
        "HOME": str(home),
        "EGO4DFS_CACHE_DIR": str(home / "cache"),
        "EGO4DFS_CACHE_SIZE": "256MiB",
        "EGO4DFS_TRANSPORT": transport,
        **more,
    }


def status(mountpoint: Path) -> dict[str, Any]:
    """Read the live counters of a mount."""
    return json.loads((mountpoint / ".ego4dfs/status.json").read_bytes())


def is_mounted(mountpoint: Path) -> bool:
    """Look into the kernel's table only: nothing here can hang."""
    escaped = re.sub(
        rb"[ \t\n\\#]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(mountpoint)
    )
    return b" %s " % escaped in Path("/proc/self/mountinfo").read_bytes()


def is_running(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def processes_with(word: str) -> list[int]:
    """Return the processes that have `word` in their command line, but for this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid() and is_running(pid)]


def wait_until(holds: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Return what `holds` returns once that is true; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{holds} did not come true in {timeout_s} s"
        time.sleep(0.02)
    return found


def unwarned(stderr: str) -> str:
    """Return what a command said, but for its doubt about the version that a test made up."""
    return "".join(
        line for line in stderr.splitlines(True) if "; trying it all the same" not in line
    )


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
