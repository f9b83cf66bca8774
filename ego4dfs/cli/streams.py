"""The standard streams of a command: they may be closed, full, or gone with their terminal.

What goes to stderr, and what a command says on stdout while it works, is a courtesy: a stream
that takes it no more is no reason to end the work. Where stdout is the product, as of `ls`, its
loss is the command's failure.
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


class StreamLost(Exception):  # noqa: N818 - an event
    """Standard output, which is the product of this command, takes no more; see `error`."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Stream(io.TextIOBase):
    """Writes to a standard stream until that fails, and drops the rest.

    With `is_product` the failure is raised as StreamLost. `lost` is the failure, kept only if
    something that was asked for did not get through.
    """

    def __init__(self, stream: TextIO, *, is_product: bool) -> None:
        self._stream = stream
        self._broken_by: OSError | None = None
        self.is_product = is_product
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or drop."""
        if self._broken_by is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._break(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        if self._broken_by is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._break(error)

    def write_product(self, text: str) -> None:
        """Write what the command was asked for, and remember if it does not get through.

        For commands whose work goes on, or is done, all the same: nothing is raised.
        """
        self.write(text)
        self.flush()
        self.lost = self._broken_by

    def isatty(self) -> bool:
        """Tell whether it is a terminal that still answers."""
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
            # Python flushes what is buffered once more while it exits: that must not fail again.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if self.is_product:
            raise StreamLost(self._broken_by) from error


@contextmanager
def standard_streams() -> Iterator[Stream]:
    """Make the standard streams safe to use for one command; yields that of stdout.

    Closed ones are opened first, so that no file of ours gets their numbers.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    out, err = (
        Stream(stream, is_product=stream is before[0]) for stream in (sys.stdout, sys.stderr)
    )
    sys.stdout, sys.stderr = cast("TextIO", out), cast("TextIO", err)
    try:
        yield out
    finally:
        err.flush()
        sys.stdout, sys.stderr = before


def is_courtesy() -> None:
    """Declare that the work of this command is not its output: drop what stdout does not take."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.is_product = False


def print_product(text: str) -> None:
    """Print on stdout what was asked for, in a command that does other work too."""
    if isinstance(sys.stdout, Stream) and not sys.stdout.is_product:
        sys.stdout.write_product(f"{text}\n")
    else:
        sys.stdout.write(f"{text}\n")


def _open_closed() -> None:
    for number in range(3):
        if not _is_open(number):
            # Reading finds the end; writing fails as it would have on the closed descriptor.
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
    """Encode the bytes of a name that is no text as they are, and escape all else."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    start = error.start  # one at a time: what follows may be of the other kind
    one = UnicodeEncodeError(error.encoding, error.object, start, start + 1, error.reason)
    is_byte = "\udc80" <= error.object[start] <= "\udcff"
    return codecs.lookup_error("surrogateescape" if is_byte else "backslashreplace")(one)


codecs.register_error(_ERRORS, _as_bytes_or_escaped)


def _os_error(error: OSError | ValueError) -> OSError:
    return error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
