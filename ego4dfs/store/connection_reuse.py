"""Keeps aiohttp from sending a request on an idle connection that has unread bytes.

A server, or a proxy before it, may send more than the response that it announced. aiohttp would
take these bytes for the response to the next request on the connection, and never read the body of
a response that arrives when none is expected. aiohttp has no public hook for this check.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from typing import Any


def close_connections_with_unread_bytes(session: Any) -> None:
    """Make an `aiohttp.ClientSession` close such connections instead of reusing them."""
    connector = session.connector
    if not isinstance(connector._get, _IdleConnections):  # noqa: SLF001 - see above
        connector._get = _IdleConnections(connector._get)  # noqa: SLF001


class _IdleConnections:
    """The method of aiohttp's connector that returns an idle connection or None, with the check."""

    def __init__(self, get: Callable[..., Awaitable[Any]]) -> None:
        self._get = get

    async def __call__(self, *arguments: Any) -> Any:
        while (connection := await self._get(*arguments)) is not None:
            if not _has_unread_bytes(connection.protocol):
                return connection
            connection.close()
        return None


def _has_unread_bytes(protocol: Any) -> bool:
    """Whether aiohttp or the kernel holds bytes of the connection, or the server has ended it."""
    socket = protocol.transport.get_extra_info("socket")
    poll = select.poll()  # select() takes no descriptor above 1023
    poll.register(socket.fileno(), select.POLLIN)
    return bool(protocol.should_close or poll.poll(0))
