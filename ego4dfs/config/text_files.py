"""Reading of files that a user names: bounded in time and size, in UTF-8 or UTF-16."""

from __future__ import annotations

import codecs
import io
import itertools
import os
import select
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ego4dfs.errors import ConfigError

PIPE_WAIT_S = 30.0
"""How long a pipe may be silent."""
_TEXT_BYTES = 64 << 20
_CHUNK_BYTES = 4 << 20
_MARK_BYTES = 3


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, or of a pipe while a program writes it.

    Raises OSError, and ConfigError for a device, or a pipe that is silent for too long.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        is_device = stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd))
        if is_device:
            raise ConfigError(f"{path} is a device", hint="name a file")
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        while chunk := _next(fd, path, waiting if stat.S_ISFIFO(mode) else None):
            yield chunk
    finally:
        os.close(fd)


def _next(fd: int, path: Path, waiting: select.poll | None) -> bytes:
    if waiting is not None and not waiting.poll(PIPE_WAIT_S * 1000):
        hint = "start the program that writes it, or name a file"
        raise ConfigError(
            f"{path} is a pipe, and no data arrived for {PIPE_WAIT_S:.0f} s", hint=hint
        )
    return os.read(fd, _CHUNK_BYTES)


def text(path: Path) -> str:
    """Return the text of a small file: UTF-8, or UTF-16 with a byte order mark.

    Raises UnicodeDecodeError, ConfigError for a file of more than 64 MiB, and what `chunks` raises.
    """
    content = bytearray()
    for chunk in chunks(path):
        content += chunk
        if len(content) > _TEXT_BYTES:
            raise ConfigError(f"{path} is larger than 64 MiB", hint="check the path")
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def text_stream(chunks: Iterable[bytes]) -> io.TextIOWrapper:
    """Return chunks of bytes as a text file: UTF-8, or UTF-16 with a byte order mark.

    Line ends are unchanged, and bytes that are no text are replaced.
    """
    raw = io.BufferedReader(_ChunkReader(as_utf8(chunks)))
    return io.TextIOWrapper(raw, "utf-8", errors="replace", newline="")


def as_utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text in UTF-8, converted from UTF-16 if it has that byte order mark."""
    stream = iter(chunks)
    first = b""
    while len(first) < _MARK_BYTES and (chunk := next(stream, b"")):
        first += chunk
    if not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from stream
        return
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for chunk in itertools.chain((first,), stream):
        yield decoder.decode(chunk).encode()


class _ChunkReader(io.RawIOBase):
    """An iterator of chunks of bytes as a raw file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._chunk = memoryview(chunk)
        count = min(len(buffer), len(self._chunk))
        buffer[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count
