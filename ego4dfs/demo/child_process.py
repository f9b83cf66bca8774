"""Child processes that end with this process, even if it is killed with SIGKILL."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from ego4dfs.errors import starting_process

# Runs in the child before the program: PR_SET_PDEATHSIG (1) asks the kernel for SIGKILL when the
# parent ends, and exec keeps the setting. The last lines check that the parent has not ended yet.
# A launcher is used instead of preexec_fn, which runs Python between fork and exec while
# other threads may hold its locks.
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def spawn(
    command: Sequence[str], *, directory: Path, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start `command` in `directory` with its output appended to `log`, and return it running.

    The process gets SIGKILL when this process ends in any way (Linux). It leads its own
    session, so that Ctrl-C at a terminal reaches only this process.
    """
    started: Future[subprocess.Popen[bytes]] = Future()

    def run() -> None:
        # The kernel's "parent" is the thread that forked: it has to live as long as the child.
        try:
            with log.open("ab") as output, starting_process():
                child = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                    cwd=directory,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            started.set_exception(error)
            return
        started.set_result(child)
        child.wait()

    threading.Thread(target=run, name=f"parent of {Path(command[0]).name}", daemon=True).start()
    return started.result()


def end(child: subprocess.Popen[bytes], *, timeout_s: float) -> None:
    """End `child` and reap it: SIGTERM, then SIGKILL after `timeout_s`."""
    child.terminate()
    try:
        child.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
