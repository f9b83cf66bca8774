"""TimedConnection: a connection of http.client whose answers arrive before a deadline, or fail."""

from __future__ import annotations

import http.client
import io
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ego4dfs.runtime.daemon_threads import CallTimeout, call_with_timeout
from ego4dfs.runtime.deadline import Deadline

CONNECT_S = 3.0
MAX_BODY_BYTES = 65 << 20
"""Longer than what a near tier keeps in one object."""

_CODE = re.compile(rb"<Code>([^<]{1,80})</Code>")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error code of S3, or empty."""
        found = _CODE.search(self.body[:4096])
        return found[1].decode("ascii", "replace") if found else ""


class TimedConnection:
    """One connection. All of an answer arrives before the deadline, or TimeoutError is raised."""

    def __init__(self, inner: http.client.HTTPConnection) -> None:
        self._inner = inner
        self._deadline = Deadline.after(0.0)
        self.is_reusable = False
        inner.response_class = self._response  # type: ignore[assignment]

    @property
    def is_alive(self) -> bool:
        """Whether the server has not closed it, and has sent nothing that was not requested."""
        sock = self._inner.sock
        try:
            sock.settimeout(0.0)
            sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except (OSError, AttributeError, ValueError):  # ValueError: TLS has no MSG_PEEK
            return isinstance(self._inner, http.client.HTTPSConnection)
        return False

    def send_request(
        self, method: str, target: str, data: bytes, headers: Mapping[str, str], deadline: Deadline
    ) -> Answer:
        """Send a request and return the answer.

        Raises OSError, HTTPException, and ValueError for lengths that are none.
        """
        self._deadline, self.is_reusable = deadline, False
        if self._inner.sock is None:
            self._connect(min(CONNECT_S, deadline.remaining_s))
        self._inner.sock.settimeout(max(0.001, deadline.remaining_s))
        self._inner.request(method, target, body=data or None, headers=dict(headers))
        response = self._inner.getresponse()
        body = _whole(response)
        self.is_reusable = not response.will_close
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, body)

    def close(self) -> None:
        """Close it."""
        self._inner.close()

    def _connect(self, limit_s: float) -> None:
        """Connect in a thread of its own: neither names nor TLS have a time limit in all."""
        try:
            call_with_timeout(limit_s, self._inner.connect, name="near-connect")
        except CallTimeout:
            raise TimeoutError from None

    def _response(self, sock: Any, *args: Any, **named: Any) -> http.client.HTTPResponse:
        timed: Any = _TimedSocket(sock, self._deadline)
        return http.client.HTTPResponse(timed, *args, **named)


def _whole(response: http.client.HTTPResponse) -> bytes:
    """Return the whole body. Raises HTTPException if it is cut, or longer than MAX_BODY_BYTES."""
    body = response.read(MAX_BODY_BYTES)
    if response.length or response.read(1):
        raise http.client.IncompleteRead(b"", response.length)
    return body


class _TimedSocket(io.RawIOBase):
    """Reads of a socket that end at a deadline, however slowly bytes arrive."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(self, 1 << 16)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._deadline.remaining_s
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        return self._sock.recv_into(buffer)
