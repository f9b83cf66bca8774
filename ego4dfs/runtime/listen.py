"""Sockets on which a server of this program listens, and the errors of their addresses."""

from __future__ import annotations

import socket

from ego4dfs.errors import ConfigError


def listening_socket(host: str, port: int, option: str, *, backlog: int = 128) -> socket.socket:
    """Return a socket that listens at an address; port 0 finds a free port.

    Raises ConfigError, which names `option` as the one to change, if the address cannot be used.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            # An earlier server may have left connections in TIME_WAIT.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = f"choose another address with {option} HOST:PORT; port 0 finds a free one"
        raise ConfigError(f"{option} {_shown(host, port)}: {reason.lower()}", hint=hint) from error
    return listener


def http_url(host: str, listener: socket.socket) -> str:
    """Return the URL of a server that listens, without a slash at its end."""
    return f"http://{_shown(host, listener.getsockname()[1])}"


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
