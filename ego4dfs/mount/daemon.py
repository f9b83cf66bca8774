"""Mount in the background: return when the tree answers, or with the reason why not."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ego4dfs import errors
from ego4dfs.errors import Ego4DError, MountError

log = logging.getLogger(__name__)

_WARNINGS_SHOWN = 20

Serve = Callable[[Callable[[], None]], None]


def run_in_background(serve: Serve, log_path: Path) -> int:
    """Run `serve(on_start)` in a process of its own and return its pid once it has started.

    The fork comes before any thread, so `serve` must do everything that starts one. The child
    leaves the terminal and writes to `log_path`. Raises what `serve` raised before it started.
    """
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        hint = "name another file with --log-file"
        raise MountError(f"log file {log_path}: {error.strerror}", hint=hint) from error
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _be_daemon(serve, writer, log_fd, log_path)
    os.close(writer)
    os.close(log_fd)
    try:
        with os.fdopen(reader, "rb") as pipe:
            report = pipe.read()
    except KeyboardInterrupt:  # it has a session of its own: Ctrl-C did not reach it
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    _raise_report(report, log_path)
    return pid


def _be_daemon(serve: Serve, writer: int, log_fd: int, log_path: Path) -> NoReturn:
    status = 1
    report = _Report(writer)
    early = _Warnings()
    logging.getLogger("ego4dfs").addHandler(early)
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, null), (1, log_fd), (2, log_fd)):
            os.dup2(source, target)
        os.chdir("/")  # a working directory would keep other filesystems busy
        serve(lambda: report.send({"started": True, "warnings": early.end()}))
        status = 0
    except Ego4DError as error:
        log.error("%s", error)  # noqa: TRY400 - expected errors need no traceback
        report.send({"kind": _public_kind(error), "text": str(error), "hint": error.hint})
    except BaseException as error:
        log.exception("the mount process failed")
        text = f"the mount process failed: {type(error).__name__}: {error}"
        report.send({"kind": "MountError", "text": text, "hint": f"see {log_path}"})
    finally:
        logging.shutdown()
        os._exit(status)


class _Warnings(logging.Handler):
    """Remembers what is warned of before the start: who mounts should see it, not the log only."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Remember one record."""
        self._texts.append(record.getMessage())

    def end(self) -> list[str]:
        """Return what was warned of, and remember no more."""
        logging.getLogger("ego4dfs").removeHandler(self)
        return self._texts[:_WARNINGS_SHOWN]


def _public_kind(error: Ego4DError) -> str:
    """Return the nearest kind that `errors` has: it decides the exit code."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return next(name for name in names if hasattr(errors, name))


class _Report:
    """The one word from the child to the parent; later ones have nobody to hear them."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def send(self, report: dict[str, object]) -> None:
        """Send the report and hang up."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            os.write(fd, json.dumps(report).encode())
            os.close(fd)
        except OSError:
            log.debug("nobody waits for the mount any more")


def _raise_report(report: bytes, log_path: Path) -> None:
    if not report:
        raise MountError("the mount process ended without a word", hint=f"see {log_path}")
    content = json.loads(report)
    if "started" in content:
        for warning in content["warnings"]:
            log.warning("%s", warning)
        return
    kind = getattr(errors, content["kind"], MountError)
    raise kind(content["text"], hint=content["hint"])
