"""Network namespaces for tests: nodes with an address each on a bridge. They need root and `ip`.

Servers stay on loopback: `relay` forwards connections to them from the address of this side.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence


class Network:
    """Nodes on a bridge, within a `with` block; everything ends with it."""

    def __init__(self, nodes: Sequence[str]) -> None:
        """Prepare a namespace for each of `nodes`."""
        self.nodes = list(nodes)
        self._tag = f"ego{os.getpid()}"  # names of interfaces have at most 15 characters
        self._net = f"10.77.{os.getpid() % 256}"
        self._relays: list[socket.socket] = []

    @property
    def host(self) -> str:
        """The address of this side, which the nodes reach."""
        return f"{self._net}.1"

    def address(self, node: str) -> str:
        """Return the address of a node."""
        return f"{self._net}.{self.nodes.index(node) + 2}"

    def within(self, node: str) -> list[str]:
        """Return the first words of a command that runs on a node.

        `ip netns exec` would hold all mounts in another mount namespace until the command ends.
        """
        return ["nsenter", f"--net=/run/netns/{self._name(node)}"]

    def relay(self, url: str) -> str:
        """Forward connections to a server on loopback; return the URL that the nodes use.

        A connection ends at once while the server refuses connections.
        """
        scheme, _, place = url.rpartition("://")
        host, _, port = place.rpartition(":")
        listening = socket.create_server((self.host, 0))
        self._relays.append(listening)
        _start(_accept, listening, (host, int(port)))
        return f"{scheme}://{self.host}:{listening.getsockname()[1]}"

    def __enter__(self) -> Network:  # noqa: PYI034 - typing.Self is 3.11
        try:
            self._create()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for listening in self._relays:
            listening.shutdown(socket.SHUT_RDWR)  # it wakes the thread that accepts
            listening.close()
        self._remove()

    def _name(self, node: str) -> str:
        return f"{self._tag}-{node}"

    def _create(self) -> None:
        bridge = self._tag
        _run("link", "add", bridge, "type", "bridge")
        _run("addr", "add", f"{self.host}/24", "dev", bridge)
        _run("link", "set", bridge, "up")
        for number, node in enumerate(self.nodes):
            space, cable = self._name(node), f"{bridge}-{number}"
            _run("netns", "add", space)
            peer = ["peer", "name", "eth0", "netns", space]
            _run("link", "add", cable, "type", "veth", *peer)
            _run("link", "set", cable, "master", bridge)
            _run("link", "set", cable, "up")
            _run("-n", space, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
            _run("-n", space, "link", "set", "eth0", "up")
            _run("-n", space, "link", "set", "lo", "up")

    def _remove(self) -> None:
        for node in self.nodes:
            subprocess.run([_ip(), "netns", "del", self._name(node)], check=False)
        subprocess.run([_ip(), "link", "del", self._tag], check=False)


def _ip() -> str:
    return shutil.which("ip") or "ip"


def _run(*words: str) -> None:
    subprocess.run([_ip(), *words], check=True)


def _start(target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()


def _accept(listening: socket.socket, target: tuple[str, int]) -> None:
    while True:
        try:
            near, _ = listening.accept()
        except OSError:  # the end
            return
        try:
            far = socket.create_connection(target)
        except OSError:
            near.close()
            continue
        for source, sink in ((near, far), (far, near)):
            _start(_pump, source, sink)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            end.close()
