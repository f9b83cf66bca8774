"""A program that reads through a VFS, and tells the oracle what it got."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import TypeVar

from ego4dfs.errors import ObjectChanged
from ego4dfs.vfs import VFS, Handle
from simulation.oracle import Call, Oracle
from simulation.world import DIRECTORY, MIB, World

Result = TypeVar("Result")

_LENGTHS = (1, 100, 4096, 128 << 10, 300 << 10, MIB + 5)


class Reader:
    """Calls of one program, one after the other."""

    def __init__(self, world: World, vfs: VFS, name: str, dice: random.Random) -> None:
        self.calls = self.errors = 0
        self.last_error: Exception | None = None
        self._world = world
        self._oracle: Oracle = world.oracle
        self._vfs = vfs
        self._name = name
        self._dice = dice

    def run(self) -> None:
        """Use the VFS until the run ends."""
        while not self._world.is_ending:
            self._world.scheduler.wait(self._dice.expovariate(1 / self._world.think_s))
            self._step()

    def _step(self) -> None:
        path = self._dice.choice(list(self._world.files))
        kind = self._dice.random()
        if kind < 0.12:
            self.stat(path)
        elif kind < 0.2:
            self.listdir()
        elif kind < 0.24:
            self.attempt("status", "", self._vfs.status)
        elif kind < 0.27:
            self.attempt("statfs", "", self._vfs.known_totals)
        elif kind < 0.4:
            handle = self.open(path)
            if handle is not None:
                self._read_whole(path, handle)
        else:
            self._read_some(path)

    def stat(self, path: str) -> None:
        url = self._world.files[path]
        caller = zlib.crc32(self._name.encode())  # as a mount says
        outcome = self.attempt("stat", url, lambda: self._vfs.stat(path, caller))
        if outcome is not None:
            self._oracle.stat(*outcome)

    def listdir(self) -> None:
        """List the directory: all names, or an error."""
        outcome = self.attempt("listdir", "", lambda: self._vfs.listdir(DIRECTORY))
        if outcome is not None:
            names = {entry.name for entry in outcome[1]}
            wanted = {path.rpartition("/")[2] for path in self._world.files}
            if not wanted <= names:
                self._oracle.fail(f"{outcome[0].text}: {wanted - names} are missing")

    def open(self, path: str, first_offset: int | None = None) -> Handle | None:
        url = self._world.files[path]
        outcome = self.attempt("open", url, lambda: self._vfs.open(path, first_offset=first_offset))
        return outcome[1] if outcome is not None else None

    def read(self, path: str, handle: Handle, offset: int, size: int) -> bytes | None:
        """Read and check; None after an error."""
        url = self._world.files[path]
        outcome = self.attempt("read", url, lambda: self._vfs.read(handle, offset, size))
        if outcome is None:
            return None
        call, got = outcome
        self._oracle.read(call, handle, offset, size, got)
        return got

    def _read_some(self, path: str) -> None:
        size = self._world.objects.current(self._world.files[path]).size
        offset = self._dice.randrange(size + 1)
        if self._dice.random() < 0.4:
            offset = 0
        first = offset if self._dice.random() < 0.25 else None
        handle = self.open(path, first)
        if handle is None:
            return
        if first is not None and offset >= handle.size and not self._confirm(path, handle):
            return
        is_sequential = self._dice.random() < 0.5
        for _ in range(self._dice.randrange(1, 8)):
            length = self._dice.choice(_LENGTHS)
            if self.read(path, handle, offset, length) is None:
                return
            if self._dice.random() < 0.3:
                pause_s = min(self._world.think_s, self._dice.choice((0.1, 3.0, 30.0)))
                self._world.scheduler.wait(self._dice.expovariate(1 / pause_s))
            offset = offset + length if is_sequential else self._dice.randrange(size + 1)

    def _confirm(self, path: str, handle: Handle) -> bool:
        url = self._world.files[path]
        return self.attempt("confirm", url, lambda: self._vfs.confirm(handle)) is not None

    def attempt(self, kind: str, url: str, do: Callable[[], Result]) -> tuple[Call, Result] | None:
        """Make one call, and check its time and its error."""
        scheduler, oracle = self._world.scheduler, self._oracle
        self.calls += 1
        call = Call(f"{self._name} {kind} {url.rpartition('/')[2]}", url, scheduler.now_s)
        scheduler.note(call.text)
        oracle.calls[id(self)] = call
        self.last_error = None
        try:
            found = do()
        except Exception as error:  # noqa: BLE001 - its class is what is checked
            self.errors += 1
            self.last_error = error
            oracle.ended(call)
            oracle.error(call, error)
            return None
        finally:
            oracle.calls.pop(id(self), None)
        oracle.ended(call)
        return call, found

    def is_readable(self, path: str) -> bool:
        """Read a whole file, as it must be once all faults are over; report an error."""
        for _ in range(3):
            handle = self.open(path)
            if handle is not None and self._read_whole(path, handle):
                return True
            if not isinstance(self.last_error, ObjectChanged):
                break
        self._oracle.fail(f"{self._name}: {path} cannot be read: {self.last_error!r}")
        return False

    def _read_whole(self, path: str, handle: Handle) -> bool:
        for offset in range(0, max(1, handle.size), MIB):
            if self.read(path, handle, offset, MIB) is None:
                return False
        return True
