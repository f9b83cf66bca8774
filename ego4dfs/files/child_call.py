"""Calls into a filesystem that may hang, made in a child process with a timeout.

A thread cannot be used: one that waits for a filesystem may ignore all signals, and a process does
not exit before all its threads have ended.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Generic, NoReturn, TypeVar

from ego4dfs.errors import starting_process

Result = TypeVar("Result")

_REAP_S = 0.2


class ChildCall(Generic[Result]):
    """A running call in a child process. Its result is JSON; it may raise OSError or ValueError."""

    def __init__(self, call: Callable[[], Result]) -> None:
        """Start the call. Raises OSError if no process can be started."""
        self._reader, writer = os.pipe()
        try:
            with starting_process():
                self._pid = os.fork()
        except OSError:
            os.close(self._reader)
            os.close(writer)
            raise
        if self._pid == 0:
            _run_and_report(call, writer)
        os.close(writer)

    def result(self, timeout_s: float) -> Result:
        """Return or raise the result of the call. Raises TimeoutError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._reader)
        received = b""
        try:
            while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                chunk = os.read(self._reader, 1 << 16)
                if not chunk:
                    return _outcome(received)
                received += chunk
            raise TimeoutError
        finally:
            os.close(self._reader)
            self._end()

    def _end(self) -> None:
        """Kill the child and reap it; one that ignores SIGKILL ends together with the mount."""
        deadline = time.monotonic() + _REAP_S
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            while not os.waitpid(self._pid, os.WNOHANG)[0] and time.monotonic() < deadline:
                time.sleep(0.002)


def call_in_child(call: Callable[[], Result], timeout_s: float) -> Result:
    """Return or raise the result of a call in a child. Raises TimeoutError after `timeout_s`."""
    return ChildCall(call).result(timeout_s)


def close_descriptors(keep: Collection[int]) -> None:
    """Close all descriptors of this process except the standard ones and `keep`."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        if int(name) > 2 and int(name) not in keep:
            with suppress(OSError):  # the descriptor of the listing itself
                os.close(int(name))


def _run_and_report(call: Callable[[], Result], writer: int) -> NoReturn:
    """Make the call in the child; close the descriptors of the parent, which may exit earlier."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        close_descriptors({writer})
        try:
            outcome: dict[str, object] = {"result": call()}
        except OSError as error:
            outcome = {"errno": error.errno, "text": str(error.strerror or error)}
        except ValueError as error:
            outcome = {"text": str(error)}
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(outcome).encode())
    finally:
        os._exit(0)


def _outcome(received: bytes) -> Result:  # type: ignore[type-var]  # the type of the call in the child
    content = json.loads(received or b'{"text": "the child process exited early"}')
    if "result" in content:
        result: Result = content["result"]
        return result
    if "errno" in content:
        raise OSError(content["errno"], content["text"])
    raise ValueError(content["text"])
