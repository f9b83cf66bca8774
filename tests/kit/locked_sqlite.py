"""A SQLite database that is locked by a process stopped within a transaction."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
if sys.argv[2] == "all":
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
db.execute("BEGIN EXCLUSIVE")
db.execute("CREATE TABLE IF NOT EXISTS held (x)")
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def locked(path: Path, *, against: str = "writers") -> Iterator[None]:
    """Keep a database locked by a stopped process, against `writers` or `all`."""
    command = [sys.executable, "-c", _HOLD, str(path), against]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            os.kill(process.pid, signal.SIGSTOP)
            yield
        finally:
            process.kill()
