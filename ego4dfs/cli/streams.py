"""Standard streams that may be closed, full, or gone with their terminal.

Output on stderr, and progress on stdout, is optional: a command continues its work when such a
stream fails. Where stdout is the result of the command, as for `ls`, its failure is the command's
failure.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

_ERRORS = "ego4dfs-output"


class OutputLost(Exception):  # noqa: N818 - an event
    """Standard output, which is the result of this command, cannot be written; see `error`."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Stream(io.TextIOBase):
    """Writes to a standard stream until that fails, and discards the rest.

    With `is_result` the failure is raised as OutputLost. `lost` is the failure of a
    `write_result`, else None.
    """

    def __init__(self, stream: TextIO, *, is_result: bool) -> None:
        self._stream = stream
        self._broken_by: OSError | None = None
        self.is_result = is_result
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or discard after a failure."""
        if self._broken_by is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._break(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or discard it after a failure."""
        if self._broken_by is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._break(error)

    def write_bytes(self, data: memoryview) -> None:
        """Write bytes at once, or discard them after a failure."""
        if self._broken_by is None:
            try:
                self._stream.flush()
                self._stream.buffer.write(data)
                self._stream.buffer.flush()
            except (OSError, ValueError) as error:
                self._break(error)

    def write_result(self, text: str) -> None:
        """Write the result of a command, and record a failure in `lost`.

        For commands that continue, or have finished their work, without output: raises nothing.
        """
        self.write(text)
        self.flush()
        self.lost = self._broken_by

    def isatty(self) -> bool:
        """Return whether it is a terminal that still works."""
        try:
            return self._broken_by is None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only is enough
        """The encoding of the text."""
        return self._stream.encoding or "utf-8"

    def _break(self, error: OSError | ValueError) -> None:
        self._broken_by = _os_error(error)
        with suppress(OSError, ValueError):
            # Python flushes the buffer once more when it exits: that must not fail again.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if self.is_result:
            raise OutputLost(self._broken_by) from error


@contextmanager
def standard_streams() -> Iterator[Stream]:
    """Make the standard streams safe to use for one command; yields the stream of stdout.

    Closed ones are opened first, so that no other file gets their descriptors.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    out, err = (
        Stream(stream, is_result=stream is before[0]) for stream in (sys.stdout, sys.stderr)
    )
    sys.stdout, sys.stderr = cast("TextIO", out), cast("TextIO", err)
    try:
        yield out
    finally:
        err.flush()
        sys.stdout, sys.stderr = before


def output_is_optional() -> None:
    """Declare that this command works without its output: discard what stdout does not accept."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.is_result = False


def print_result(text: str) -> None:
    """Print the result of a command on stdout; where output is optional, record a failure."""
    if isinstance(sys.stdout, Stream) and not sys.stdout.is_result:
        sys.stdout.write_result(f"{text}\n")
    else:
        sys.stdout.write(f"{text}\n")


def write_result_bytes(data: memoryview) -> None:
    """Write bytes of the result of a command to stdout. Raises OutputLost if that fails."""
    cast("Stream", sys.stdout).write_bytes(data)


def _open_closed() -> None:
    for number in range(3):
        if not _is_open(number):
            # Reading finds the end of the file; writing fails as on the closed descriptor.
            _take_number(number, os.open(os.devnull, os.O_RDONLY))
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _take_number(number: int, opened: int) -> None:
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)


def _as_bytes_or_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode the bytes of a name that is not UTF-8 unchanged, and escape everything else."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    start = error.start  # one character: the next may be of the other kind
    one = UnicodeEncodeError(error.encoding, error.object, start, start + 1, error.reason)
    is_byte = "\udc80" <= error.object[start] <= "\udcff"
    return codecs.lookup_error("surrogateescape" if is_byte else "backslashreplace")(one)


codecs.register_error(_ERRORS, _as_bytes_or_escaped)


def _os_error(error: OSError | ValueError) -> OSError:
    return error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
