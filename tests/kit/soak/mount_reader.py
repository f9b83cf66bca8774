"""Reads through a mount in the ways that programs have: each operation compares what it reads."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.data import Seeded, read_whole
from kit.fault_kinds import HIDDEN
from kit.load import Load
from kit.soak.files import DIRECTORIES, SMALL, VIDEO, size_of

PIECE = 128 << 10
LONGEST_READ = 96 << 10

# A failed read of a mapped page is SIGBUS, which ends the process: so it is a process of its own.
_MAPPER = """
import hashlib, json, mmap, sys
for line in sys.stdin:
    path, offset, size = json.loads(line)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            data = mapped[offset : offset + size]
            answer = [len(data), hashlib.sha256(data).hexdigest()]
    except OSError as error:
        answer = [-1, error.errno]
    except ValueError:
        answer = [0, hashlib.sha256().hexdigest()]
    print(json.dumps(answer), flush=True)
"""


class MountReader:
    """The operations on one mount. Safe from several threads, each with an own reader."""

    def __init__(self, root: Path, load: Load, video_digest: str, *, always_there: bool) -> None:
        self._root = root / "v1"
        self._load = load
        self._digest = video_digest
        self._always_there = always_there
        self._mapper: subprocess.Popen[bytes] | None = None

    def run(self, kind: str, rng: random.Random) -> None:
        """Run one operation; an OSError is counted as a valid result."""
        with self._load.operation(kind):
            getattr(self, f"_{kind.replace(' ', '_')}")(rng)

    def close(self) -> None:
        """End the process that maps files."""
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.communicate()

    @contextmanager
    def _opened(self, kind: str, path: str) -> Iterator[int]:
        """Open a file of the mount; compare its size after reads that succeeded."""
        with self._load.call(f"{kind}: open"):
            try:
                fd = os.open(self._root / path, os.O_RDONLY)
            except FileNotFoundError:
                if self._always_there:
                    note_lost(self._load, path)
                raise
        try:
            yield fd
            size = os.fstat(fd).st_size
            if size != size_of(path):
                self._load.note(self._load.wrong_sizes, f"{kind}: {path}: {size}")
        finally:
            os.close(fd)

    def _sequential(self, rng: random.Random) -> None:
        path, offset = any_path(rng), 0
        wanted = Seeded(name_of(path))
        with self._opened("sequential", path) as fd:
            while True:
                with self._load.call("sequential: read"):
                    data = os.read(fd, PIECE)
                expected = wanted.part(offset, min(PIECE, size_of(path) - offset))
                whole = data or not expected  # the kernel returns fewer bytes before an error
                self._load.compare(
                    f"sequential: {path}: {offset}",
                    data,
                    expected[: len(data)] if whole else expected,
                )
                offset += len(data)
                if not data:
                    return

    def _pread(self, rng: random.Random) -> None:
        path = any_path(rng)
        ranges = [any_range(path, rng) for _ in range(rng.randint(1, 8))]
        with self._opened("pread", path) as fd:
            for offset, count in ranges:
                if rng.random() < 0.5:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                self._load.pread("pread", fd, name_of(path), offset, count)

    def _preadv(self, rng: random.Random) -> None:
        path = any_path(rng)
        offset, count = any_range(path, rng)
        buffers = [bytearray(count // 3), bytearray(count // 2), bytearray(count // 5)]
        total = min(sum(map(len, buffers)), size_of(path) - offset)
        with self._opened("preadv", path) as fd:
            with self._load.call("preadv"):
                length = os.preadv(fd, buffers, offset) if total else 0
            data = b"".join(buffers)[:length]
            if length < total:
                data += read_whole(fd, total - length, offset + length)
            self._load.compare(
                f"preadv: {path}: {offset}+{total}", data, Seeded(name_of(path)).part(offset, total)
            )

    def _seek(self, rng: random.Random) -> None:
        path = any_path(rng)
        offset, count = any_range(path, rng)
        with self._opened("seek", path) as fd:
            with self._load.call("seek: lseek"):
                end = os.lseek(fd, 0, os.SEEK_END)
            if end != size_of(path):
                self._load.note(self._load.wrong_sizes, f"seek: {path}: {end}")
            os.lseek(fd, offset, os.SEEK_SET)
            data = b""
            while len(data) < count:
                with self._load.call("seek: read"):
                    piece = os.read(fd, count - len(data))
                if not piece:
                    break
                data += piece
            wanted = Seeded(name_of(path)).part(offset, count)
            self._load.compare(f"seek: {path}: {offset}+{count}", data, wanted)

    def _tail_index(self, rng: random.Random) -> None:
        """Read the end, the beginning and a window in the middle, as a video's reader does."""
        path = any_path(rng, "clips", "full_scale")
        size = size_of(path)
        tail = min(size, 64 << 10)
        middle = rng.randrange(size + 1)
        with self._opened("tail index", path) as fd:
            for offset, count in (
                (size - tail, tail),
                (0, min(size, 4096)),
                (middle, min(size - middle, 300_000)),
            ):
                self._load.pread("tail index", fd, name_of(path), offset, count)

    def _small_files(self, rng: random.Random) -> None:
        for name in rng.sample(sorted(SMALL), 12):
            with self._opened("small files", f"annotations/{name}") as fd:
                self._load.pread("small files", fd, name, 0, SMALL[name])

    def _walk(self, rng: random.Random) -> None:
        """List all directories; no name may be missing. Sizes are those of HEAD requests."""
        for directory, files in DIRECTORIES.items():
            with self._load.call("walk: listdir"):
                missing = set(files) - set(os.listdir(self._root / directory))
            if missing:
                self._load.note(self._load.unexpected, f"walk: {directory}: lost {sorted(missing)}")
        with self._load.call("walk: stat"):
            os.stat(self._root / any_path(rng))

    def _mmap(self, rng: random.Random) -> None:
        path = any_path(rng)
        offset, count = any_range(path, rng)
        with self._load.call("mmap"):
            length, answer = self._map(str(self._root / path), offset, count)
        if length < 0:
            raise OSError(answer, os.strerror(int(answer)), path)
        if length < count:
            self._load.note(self._load.false_ends, f"mmap: {path}: {offset}+{length}")
        wanted = Seeded(name_of(path)).part(offset, length)
        if hashlib.sha256(wanted).hexdigest() != answer:
            self._load.note(self._load.wrong_bytes, f"mmap: {path}: {offset}+{length}")

    def _map(self, *arguments: object) -> tuple[int, object]:
        if self._mapper is None or self._mapper.poll() is not None:
            self._mapper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _MAPPER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        self._mapper.stdin.write(f"{json.dumps(arguments)}\n".encode())
        self._mapper.stdin.flush()
        line = self._mapper.stdout.readline()
        if line:
            return tuple(json.loads(line))
        code = self._mapper.wait()
        if code != -signal.SIGBUS:
            raise ChildProcessError(f"the process that maps files ended with {code}")
        self._mapper = None
        raise OSError(5, "SIGBUS")

    def _video(self, rng: random.Random) -> None:
        """Decode the middle of the video."""
        if not self._digest:
            return
        from ego4dfs.demo.decode_window import decode_middle

        with self._load.call("video"), Watched(self._root / "full_scale" / VIDEO) as file:
            try:
                digest = decode_middle(file).digest
            except (ValueError, LookupError, RuntimeError):
                if file.error is None:
                    raise
            if file.error is not None:
                raise file.error
        if digest != self._digest:
            self._load.note(self._load.wrong_bytes, "video: other frames")


class Watched(io.FileIO):
    """A file that keeps the error of a read: a decoder may go on after it."""

    error: OSError | None = None

    def read(self, size: int = -1) -> bytes | None:
        """Read, and keep the error that is raised."""
        try:
            return super().read(size)
        except OSError as error:
            self.error = error
            raise


def any_path(rng: random.Random, *directories: str) -> str:
    """Return the path of a file of one of the directories."""
    directory = rng.choice(directories or list(DIRECTORIES))
    return f"{directory}/{rng.choice(sorted(DIRECTORIES[directory]))}"


def any_range(path: str, rng: random.Random) -> tuple[int, int]:
    """Return offset and length of a part of the file."""
    offset = rng.randrange(size_of(path) + 1)
    return offset, min(rng.randint(1, LONGEST_READ), size_of(path) - offset)


def note_lost(load: Load, path: str) -> None:
    """Note a listed file that was not found, unless the store may have said so."""
    if not name_of(path).startswith(HIDDEN):
        load.note(load.unexpected, f"{path}: not found")


def name_of(path: str) -> str:
    """Return the last part of a path; the bytes of the file follow from it."""
    return path.rpartition("/")[2]
