"""A mount in a background process: start it, and wait until it serves or has failed.

The background process is a daemon as in daemon(7): it has its own session without a terminal, no
descriptor, signal setting or umask of the caller, and writes its standard streams to the log. See
`working_directory` for its working directory.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from ego4dfs import errors
from ego4dfs.errors import Ego4DError, MountError, starting_process
from ego4dfs.files.child_call import close_descriptors
from ego4dfs.mount.logfile import LogFile, log_to
from ego4dfs.mount.working_directory import change_to_root
from ego4dfs.runtime.resource_limits import limit_reached

log = logging.getLogger(__name__)

_WARNINGS_SHOWN = 20

Serve = Callable[[Callable[[], None]], None]

_UMASK = 0o077
_PYTHON_IGNORES = {signal.SIGPIPE, signal.SIGXFSZ}


def run_in_background(
    serve: Serve, log_path: Path, keep: Collection[int] = (), log_format: str = "text"
) -> int:
    """Run `serve(on_start)` in a background process and return its pid after `on_start`.

    Must be called before any thread is started; `serve` may start threads. The child leaves the
    terminal, closes all descriptors except `keep`, and writes to `log_path`, as text or JSON.
    Raises what `serve` raised before it called `on_start`.
    """
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK
        os.close(os.open(log_path, flags, 0o600))
    except OSError as error:
        hint = "choose another file with --log-file"
        raise MountError(f"log file {log_path}: {error.strerror}", hint=hint) from error
    with suppress(OSError, ValueError):  # the mount works without a terminal too
        sys.stdout.flush()
        sys.stderr.flush()
    reader, writer = os.pipe()
    with starting_process():
        child = os.fork()
    if child == 0:
        _run_daemon(serve, writer, log_path, keep, log_format)
    os.close(writer)
    with suppress(ChildProcessError):  # the kernel reaped it, if the caller ignores SIGCHLD
        os.waitpid(child, 0)
    return _await_report(reader, log_path)


def _await_report(reader: int, log_path: Path) -> int:
    """Return the pid of the daemon once it reports its start; its first line is the pid."""
    pid = 0
    with os.fdopen(reader, "rb") as pipe:
        try:
            pid = int(pipe.readline() or 0)
            report = pipe.readline()
        except KeyboardInterrupt:  # it does not reach the daemon, which has its own session
            if pid:
                os.kill(pid, signal.SIGTERM)
                pipe.read()
            raise
    _raise_report(report, log_path)
    return pid


def _run_daemon(
    serve: Serve, writer: int, log_path: Path, keep: Collection[int], log_format: str
) -> NoReturn:
    status = 1
    report = _Report(writer)
    early = _Warnings()
    try:
        _leave_session(report, log_path)
        _drop_inherited({writer, *keep})
        log_to(LogFile(log_path, log_format=log_format), early)
        change_to_root()
        serve(lambda: report.send({"started": True, "warnings": early.end()}))
        status = 0
    except Ego4DError as error:
        log.error("%s", error)  # noqa: TRY400 - expected errors need no traceback
        report.send({"kind": _public_kind(error), "text": str(error), "hint": error.hint})
    except BaseException as error:
        log.exception("the mount process failed")
        report.send(_failure(error, log_path))
    finally:
        logging.shutdown()
        os._exit(status)


def _leave_session(report: _Report, log_path: Path) -> None:
    """Continue in a child in a new session, and report its pid, or why it cannot be started.

    The leader of the session exits at once, so that the daemon can never acquire a terminal.
    """
    os.setsid()
    try:
        with starting_process():
            child = os.fork()
        if child:
            os._exit(0)
    except OSError as error:
        report.say(0)
        report.send(_failure(error, log_path))
        os._exit(1)
    report.say(os.getpid())


def _failure(error: BaseException, log_path: Path) -> dict[str, object]:
    limit = limit_reached(error)
    text = f"the mount process failed: {limit or f'{type(error).__name__}: {error}'}"
    return {"kind": "MountError", "text": text, "hint": limit.hint if limit else f"see {log_path}"}


class _Warnings(logging.Handler):
    """Collects warnings before the start, to show them to the caller too, not only in the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect one record."""
        self._texts.append(record.getMessage())

    def end(self) -> list[str]:
        """Stop collecting, and return the warnings."""
        logging.getLogger("ego4dfs").removeHandler(self)
        return self._texts[:_WARNINGS_SHOWN]


def _drop_inherited(keep: Collection[int]) -> None:
    """Reset what the fork inherited: descriptors, signal settings, the umask."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    close_descriptors(keep)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - _PYTHON_IGNORES:
        with suppress(OSError, ValueError):  # signals that the C library reserves
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is no terminal that could send SIGHUP
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(_UMASK)


def _public_kind(error: Ego4DError) -> str:
    """Return the name of the nearest class in `errors`, which decides the exit code."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return next(name for name in names if hasattr(errors, name))


class _Report:
    """The pipe from the child to the parent, one JSON line per message; closed after the report."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def say(self, content: object) -> None:
        """Send one line."""
        if self._fd is None:
            return
        try:
            os.write(self._fd, json.dumps(content).encode() + b"\n")
        except OSError:
            log.debug("the parent process has exited")

    def send(self, report: dict[str, object]) -> None:
        """Send the report and close the pipe."""
        self.say(report)
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _raise_report(report: bytes, log_path: Path) -> None:
    if not report:
        raise MountError(
            "the mount process exited without reporting an error", hint=f"see {log_path}"
        )
    content = json.loads(report)
    if "started" in content:
        for warning in content["warnings"]:
            log.warning("%s", warning)
        return
    kind = getattr(errors, content["kind"], MountError)
    raise kind(content["text"], hint=content["hint"])
