"""A process that reads files. It runs without site packages, so that sixteen start quickly.

The first line of stdin is a job in JSON; the second line starts it. The process prints how many
bytes it has read, with the begin and end by CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import json
import os
import sys
import time

_PIECE = 1 << 20


def main() -> None:
    """Read files one after the other, each up to a limit."""
    job = json.loads(sys.stdin.readline())
    if job["evict"]:
        for path in job["paths"]:
            _evict(path)
    print("ready", flush=True)
    sys.stdin.readline()
    buffer = memoryview(bytearray(_PIECE))
    begin, total = time.monotonic(), 0
    for path in job["paths"]:
        total += _read(path, job["limit"], buffer)
    print(json.dumps({"begin": begin, "end": time.monotonic(), "bytes": total}))


def _read(path: str, limit: int, buffer: memoryview) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        done = 0
        while done < limit:
            count = os.readv(fd, [buffer[: limit - done]])
            if count == 0:
                break
            done += count
        return done
    finally:
        os.close(fd)


def _evict(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


if __name__ == "__main__":
    main()
