"""Output of commands: text, tables, JSON, error messages; and their exit codes.

Data goes to stdout, everything else to stderr. An error that the user can correct is two lines:
what is wrong, and a hint. Any other error is a bug: one line, and the traceback in a file.
"""

from __future__ import annotations

import enum
import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from ego4dfs.cli.signals import lost_interrupts_raised_again
from ego4dfs.cli.streams import OutputLost, print_result, standard_streams
from ego4dfs.errors import AccessDenied, ConfigError, Ego4DError, MountError, os_error_text
from ego4dfs.runtime.resource_limits import limit_reached
from ego4dfs.text import json_text, masked, printable

if TYPE_CHECKING:
    from rich.table import Table

Row = Sequence[object]

# rich lays out every cell in Python, which takes too long for long listings.
MAX_RICH_ROWS = 500


class ExitCode(enum.IntEnum):
    """Exit codes of commands; scripts may rely on these numbers."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PARTIAL = 3
    REFUSED = 4
    MOUNTPOINT = 5


EXIT_MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "failed",
    ExitCode.USAGE: "wrong flag, config file or environment variable",
    ExitCode.PARTIAL: "partly done",
    ExitCode.REFUSED: "access refused: credentials expired, or not licensed",
    ExitCode.MOUNTPOINT: "mountpoint or FUSE unusable",
}

_CODES: Mapping[type[Ego4DError], ExitCode] = {
    ConfigError: ExitCode.USAGE,
    AccessDenied: ExitCode.REFUSED,
    MountError: ExitCode.MOUNTPOINT,
}


def exit_codes() -> str:
    """Return the table of exit codes as text for --help."""
    lines = (f"  {code.value}  {meaning}" for code, meaning in EXIT_MEANINGS.items())
    return "\n".join(("exit codes:", *lines))


def exit_code(error: Ego4DError) -> ExitCode:
    """Return the code with which a command ends on this error."""
    codes = (code for kind, code in _CODES.items() if isinstance(error, kind))
    return next(codes, ExitCode.FAILURE)


def guard(run: Callable[[], int]) -> int:
    """Run a command and return its exit code, for every exception.

    A closed pipe and Ctrl-C end it without a message, with the shell's codes for the signals.
    """
    with standard_streams() as out:
        show_warnings()
        code = _guarded(run)
        try:
            out.flush()
        except OutputLost as lost:
            return _lost(lost.error)
        if out.lost is not None and code == ExitCode.OK:
            return _lost(out.lost)
    return code


def _guarded(run: Callable[[], int]) -> int:
    try:
        with lost_interrupts_raised_again():
            return run()
    except SystemExit as done:  # argparse after --help
        return done.code if isinstance(done.code, int) else ExitCode.OK
    except Ego4DError as error:
        print_error(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OutputLost as lost:
        return _lost(lost.error)
    except Exception as error:  # noqa: BLE001 - users get a message, not a traceback
        known = limit_reached(error)
        print_error(known) if known else _print_unexpected(error)
        return ExitCode.FAILURE


def _lost(error: OSError) -> int:
    """Return the exit code of a command that could not print its result.

    If the reader closed the pipe, as `head` does, no message is printed.
    """
    if error.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    say(f"ego4dfs: standard output: {os_error_text(error)}", file=sys.stderr)
    return ExitCode.FAILURE


def end_process(code: int) -> NoReturn:
    """Flush the output and end this process at once, even while its threads run.

    Threads that wait for an answer of the store cannot be stopped, and Python waits for them.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def say(*lines: str, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print lines for people on stdout, or on `file`.

    Characters that are not printable are escaped, line ends too. All text output uses this
    function.
    """
    stream = file or sys.stdout
    stream.write("".join(f"{printable(line)}{end}" for line in lines))
    if flush:
        stream.flush()


def print_error(error: Ego4DError) -> None:
    """Print an error on stderr, and its hint if it has one."""
    say(f"ego4dfs: {error}", file=sys.stderr)
    if error.hint:
        say(f"  hint: {error.hint}", file=sys.stderr)


def show_warnings() -> None:
    """Print the package's warnings on stderr; with EGO4DFS_DEBUG=1 all of its log."""
    logger = logging.getLogger("ego4dfs")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
    logger.setLevel(logging.DEBUG if _debug() else logging.WARNING)


class _StderrHandler(logging.Handler):
    """Prints log records as messages of the program, on the current stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        level = record.levelname.lower()
        say(f"ego4dfs: {level}: {record.getMessage()}", file=sys.stderr)


def _print_unexpected(error: Exception) -> None:
    if isinstance(error, OSError) and isinstance(error.filename, (str, bytes)) and not _debug():
        # A path that the user gave and that cannot be used is not a bug.
        print_error(Ego4DError(f"{os.fsdecode(error.filename)}: {error.strerror}"))
        return
    report = masked("".join(traceback.format_exception(error)))
    say(f"ego4dfs: unexpected {type(error).__name__}: {masked(str(error))}", file=sys.stderr)
    written = None if _debug() else _write_report(report)
    if written:
        say(f"  hint: this is a bug; its traceback is in {written}", file=sys.stderr)
    else:
        say(*report.rstrip("\n").split("\n"), file=sys.stderr)


def _write_report(report: str) -> Path | None:
    """Append the traceback to the error log; return None if it cannot be written."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        base = state if state.is_absolute() else Path.home() / ".local" / "state"
        log = base / "ego4dfs" / "errors.log"
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("a", encoding="utf-8") as file:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            file.write(f"{now} {masked(repr(sys.argv))}\n{report}\n")
    except (OSError, RuntimeError):  # no home directory, or not writable
        return None
    return log


def _debug() -> bool:
    return os.environ.get("EGO4DFS_DEBUG", "") not in {"", "0"}


def table(
    rows: Sequence[Row],
    header: Sequence[str],
    *,
    right: Collection[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Print rows under a header, with the columns named in `right` aligned to the right.

    On a terminal it uses rich, which respects NO_COLOR and the width; elsewhere, and for long
    tables, it prints plain aligned text without trailing spaces.
    """
    stream = stream or sys.stdout
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    header, right = [printable(name) for name in header], {printable(name) for name in right}
    if stream.isatty() and len(cells) <= MAX_RICH_ROWS:
        from rich.console import Console  # noqa: PLC0415 - late, as in rich_table

        Console(file=stream).print(rich_table(rows, header, right))
        return
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for line in [list(header), *cells]:
        padded = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, header, strict=True)
        )
        say("  ".join(padded).rstrip(), file=stream)


def rich_table(rows: Sequence[Row], header: Sequence[str], right: Collection[str]) -> Table:
    """Return a table for a terminal, with its text escaped."""
    # Imported late: most commands print no table, and importing rich takes longer than they do.
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in map(printable, header):
        drawn.add_column(Text(name), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        cells = [printable(str(cell)) for cell in row]
        drawn.add_row(*map(Text, cells))  # Text: a cell such as [FHO] is not markup
    return drawn


def print_json(document: object) -> None:
    """Print one JSON document on stdout; paths become strings. Names are exact, not escaped."""
    print_result(json_text(document, default=os.fspath))
