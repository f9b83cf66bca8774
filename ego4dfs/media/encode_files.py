"""What FFmpeg reads and writes while a cut is encoded, as objects that keep their exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO, TypeVar

from ego4dfs.media.locate import Read

Result = TypeVar("Result")


class PieceReader:
    """Bytes in order, for FFmpeg to read. An exception is kept, and is then the end of them."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self._content = iter(content)
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most so many; none at the end."""
        try:
            while not self._rest:
                piece = next(self._content, None)
                if piece is None:
                    return b""
                self._rest = memoryview(piece)
        except BaseException as error:  # noqa: BLE001 - FFmpeg would print and drop it
            self.error = error
            return b""
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)


class GuardedFile:
    """A file for FFmpeg to write to. An exception is kept, and what follows is dropped."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        return self._kept(lambda: self._file.write(data), len(data))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place in the file."""
        return self._kept(lambda: self._file.seek(offset, whence), offset)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()

    def _kept(self, call: Callable[[], Result], otherwise: Result) -> Result:
        if self.error is None:
            try:
                return call()
            except BaseException as error:  # noqa: BLE001 - FFmpeg would print and drop it
                self.error = error
        return otherwise


def reader_of(file: BinaryIO) -> Read:
    """Return a function that reads ranges of a file."""

    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read
