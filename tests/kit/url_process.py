"""A process that reads a file on `ego4d://` when it is told to, and prints what it got.

    python -m kit.url_process VERSION PATH [exit]

Prints `ready`, waits for a line, and prints the MD5 of the bytes. With `exit` it then ends without
closing anything.
"""

from __future__ import annotations

import hashlib
import os
import sys

import fsspec

from ego4dfs.runtime import range_locks

PATIENT_S = 60.0
"""How long to wait for another process, which is slow on a busy machine."""
PIECE = 1 << 20


def main() -> None:
    version, path, *how = sys.argv[1:]
    range_locks.WAIT_S = range_locks.NAME_WAIT_S = PATIENT_S
    fs = fsspec.filesystem("ego4d", version=version, datasets=["full_scale"], metadata=False)
    fs.isdir("")
    print("ready", flush=True)
    sys.stdin.readline()
    found = hashlib.md5()  # noqa: S324
    with fs.open(path) as file:
        while data := file.read(PIECE):
            found.update(data)
    print(found.hexdigest(), flush=True)
    if how:
        os._exit(0)
    fs.close()


if __name__ == "__main__":
    main()
