"""Names of hosts that mean this machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return whether a host is `localhost` or an address that only this machine reaches."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def names_loopback(header: str) -> bool:
    """Return whether a Host header names this machine by its loopback address or `localhost`.

    A page of another site can let its own name resolve to 127.0.0.1, to read what is served there
    (DNS rebinding). The header then has that name.
    """
    try:
        return is_loopback(urlsplit(f"//{header}").hostname or "")
    except ValueError:
        return False
