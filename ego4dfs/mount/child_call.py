"""Calls that a mount may never answer, made in a child process with a time limit.

Not in a thread: a thread that waits for a filesystem may be beyond any signal, and a process
does not end before all its threads have.
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

Result = TypeVar("Result")

_REAP_S = 0.2


class ChildCall(Generic[Result]):
    """A call under way in a child. Its result must be JSON; it may raise OSError or ValueError."""

    def __init__(self, call: Callable[[], Result]) -> None:
        """Start it. Raises OSError where no process is to be had."""
        self._reader, writer = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._reader)
            os.close(writer)
            raise
        if self._pid == 0:
            _answer(call, writer)
        os.close(writer)

    def result(self, timeout_s: float) -> Result:
        """Return or raise what the call did. Raises TimeoutError when it takes longer."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._reader)
        received = b""
        try:
            while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                piece = os.read(self._reader, 1 << 16)
                if not piece:
                    return _outcome(received)
                received += piece
            raise TimeoutError
        finally:
            os.close(self._reader)
            self._end()

    def _end(self) -> None:
        """Kill the child, and collect it if it hears that; if not, it ends when the mount does."""
        deadline = time.monotonic() + _REAP_S
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            while not os.waitpid(self._pid, os.WNOHANG)[0] and time.monotonic() < deadline:
                time.sleep(0.002)


def call_in_child(call: Callable[[], Result], timeout_s: float) -> Result:
    """Return or raise what the call does in a child. Raises TimeoutError when it takes longer."""
    return ChildCall(call).result(timeout_s)


def close_descriptors(keep: Collection[int]) -> None:
    """Close all descriptors of this process but the standard ones and `keep`."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        if int(name) > 2 and int(name) not in keep:
            with suppress(OSError):  # that of the listing itself
                os.close(int(name))


def _answer(call: Callable[[], Result], writer: int) -> NoReturn:
    """Make the call; hold nothing of the parent's, which may have ended long before this."""
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


def _outcome(received: bytes) -> Result:  # type: ignore[type-var]  # what the call in the child gave
    content = json.loads(received or b'{"text": "the child process ended early"}')
    if "result" in content:
        result: Result = content["result"]
        return result
    if "errno" in content:
        raise OSError(content["errno"], content["text"])
    raise ValueError(content["text"])
