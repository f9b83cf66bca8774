"""A network of a soak run's own, in which the address that connections come from can change.

In a network namespace the loopback interface has only single addresses. If the source address of
connections to the gateway is removed, they hang as they do after a change of Wi-Fi or VPN: nothing
that either side sends arrives, and no error is reported.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from shutil import which

GATEWAY = "127.2.0.1"
LOOPBACK = "127.0.0.1"
_NEWNET = 0x40000000
_IP = which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Network:
    """The addresses of the namespace that this process entered; `refusal` says why it did not."""

    def __init__(self) -> None:
        """Enter a network namespace, before any thread starts; children inherit it."""
        self.refusal = self._enter()
        self._number = 0
        if not self.refusal:
            for address in (LOOPBACK, GATEWAY):
                _ip("address", "add", f"{address}/32", "dev", "lo")
            _ip("link", "set", "lo", "up")
            _ip("address", "delete", "127.0.0.1/8", "dev", "lo")
            self.change()

    @property
    def host(self) -> str:
        """The address that the gateway listens on."""
        return LOOPBACK if self.refusal else GATEWAY

    def change(self) -> None:
        """Remove the address of the existing connections, and give new ones another."""
        old, new = f"127.1.0.{self._number}", f"127.1.0.{self._number % 250 + 1}"
        _ip("address", "add", f"{new}/32", "dev", "lo")
        _ip(*f"route change local {GATEWAY} dev lo table local src {new}".split())
        if self._number:
            _ip("address", "delete", f"{old}/32", "dev", "lo")
        self._number = self._number % 250 + 1

    @staticmethod
    def _enter() -> str:
        if _IP is None:
            return "the command `ip` is missing (package iproute2)"
        if ctypes.CDLL(None, use_errno=True).unshare(_NEWNET):
            return f"no network namespace: {os.strerror(ctypes.get_errno())}"
        return ""


def _ip(*arguments: str) -> None:
    subprocess.run([_IP, *arguments], check=True, capture_output=True, timeout=10)
