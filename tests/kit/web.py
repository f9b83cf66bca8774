"""The HTTP server of a tree in a thread, and raw requests to it."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from ego4dfs.runtime.listen import listening_socket
from ego4dfs.vfs import VFS
from ego4dfs.web.app import Pages
from ego4dfs.web.server import server_of
from kit.cli import EGO4DFS
from kit.processes import wait_until

BASE = "t0ken-of-the-tests"


@dataclass
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Client:
    """Requests below `/TOKEN/`, each on a connection of its own."""

    port: int
    base: str

    @classmethod
    def of(cls, url: str) -> Client:
        """Return a client of a server on this machine."""
        parts = urlsplit(url)
        return cls(parts.port, parts.path)

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """Send a path as it is; `_` in the name of a header is a hyphen."""
        return self.raw(self.base + path, method=method, **headers)

    def raw(self, target: str, *, method: str = "GET", **headers: str) -> Answer:
        """Send a target that need not be below the token."""
        given = {name.replace("_", "-"): text for name, text in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, target, headers=given)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def sent(self, path: str, lines: str = "") -> socket.socket:
        """Send a GET request with more header lines; return its connection, with a small buffer."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", self.port))
        target = self.base + path
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        return connection


@contextmanager
def server_process(
    command: str,
    *words: str,
    prints: str = "Ego4D is at ",
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `serve` or `browse`; yield the process and the address that it prints.

    `before` is a program that runs the command which follows it.
    """
    line = [*before, *EGO4DFS, command, *words]
    pipe = subprocess.PIPE
    process = subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=env)
    try:
        first = process.stdout.readline()
        assert first.startswith(prints), first + process.stderr.read()
        yield process, first.removeprefix(prints).strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@contextmanager
def served(
    vfs: VFS, token: str = BASE, pages: Pages | None = None, port: int = 0
) -> Iterator[Client]:
    """Serve a tree in a thread until the end of the block."""
    listener = listening_socket("127.0.0.1", port, "--bind")
    server = server_of(vfs, listener, token, pages)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield Client(listener.getsockname()[1], f"/{token}/" if token else "/")
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
