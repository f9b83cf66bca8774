"""Free TCP ports of 127.0.0.1 for a server that is about to start."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

# Below Linux's ephemeral range (32768 up): otherwise an outgoing connection could take the port
# of a server while it is stopped, and the server could not start again.
_RANGE = range(20_000, 32_000)


def pick(names: Sequence[str], fixed: Mapping[str, int]) -> dict[str, int]:
    """Choose a port for each name, all different and free now; those in `fixed` are not checked.

    They may be taken later: a server that cannot bind them must choose others.
    """
    wanted = [name for name in names if name not in fixed]
    while True:
        numbers = random.sample(_RANGE, len(wanted))
        if not set(numbers) & set(fixed.values()) and all_free(numbers):
            return {**fixed, **dict(zip(wanted, numbers, strict=True))}


def all_free(ports: Iterable[int]) -> bool:
    """Return whether a server can listen on each of these ports now."""
    with ExitStack() as stack:
        for port in ports:
            probe = stack.enter_context(socket.socket())
            # As in servers: connections of an earlier process in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
