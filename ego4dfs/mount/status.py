"""The hidden files of a mount with its live counters, and reading them with a timeout."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ego4dfs.errors import MountError
from ego4dfs.files.child_call import ChildCall
from ego4dfs.files.mountinfo import mounted_at
from ego4dfs.mount.processes import Process, pid_namespace, serving_process
from ego4dfs.text import shell_word
from ego4dfs.vfs import VFS, Handle, Stat
from ego4dfs.vfs.tree import inode
from ego4dfs.vfs.windows import HIDDEN_DIRECTORY

STATUS_PATH = f"/{HIDDEN_DIRECTORY}/status.json"
ACTIVITY_PATH = f"/{HIDDEN_DIRECTORY}/activity.json"
ANSWER_S = 2.0
"""How long commands wait for a mount: normally it answers within milliseconds."""


class MountDead(MountError):  # noqa: N818 - a state of the mount
    """The process of the mount has exited."""


class MountUnresponsive(MountError):  # noqa: N818 - a state of the mount
    """The mount did not answer in time."""


STATUS_BYTES = 4096
"""The constant size of each file: programs read up to the size of an earlier `stat`."""
MAX_SHOWN = 8
"""Files, and requests, in the activity; fewer if their names are long."""
MAX_NAME_CHARS = 160
"""A longer path or URL in the activity has only its last characters, after an ellipsis."""


class StatusFiles:
    """`.ego4dfs/status.json` and `activity.json`, which no listing shows.

    Each open takes a new snapshot. A file is one page, so that no page has parts of two snapshots
    and the file can be mapped. Spaces before its last newline fill it to its size.
    """

    def __init__(self, vfs: VFS) -> None:
        """Show the counters of `vfs`."""
        self._vfs = vfs
        self._contents: Mapping[str, Callable[[], bytes]] = {
            STATUS_PATH: self._status,
            ACTIVITY_PATH: self._activity,
        }

    def __contains__(self, path: str) -> bool:
        return path in self._contents

    def stat(self, path: str) -> Stat | None:
        """Return the Stat of one of the files, None for other paths."""
        if path in self:
            return Stat(inode(path), is_dir=False, size=STATUS_BYTES, mtime_ns=0)
        return None

    def open(self, path: str) -> Handle:
        """Open one of the files."""
        return Handle(path, content=self._contents[path]())

    def read_into(self, handle: Handle, offset: int, view: memoryview) -> int:
        """Fill `view` with the bytes from `offset` on; a read at 0 takes a new snapshot."""
        if offset == 0:
            handle.content = memoryview(self._contents[handle.path]())
        return self._vfs.read_into(handle, offset, view)

    def _status(self) -> bytes:
        status = {"pid": os.getpid(), "pid_namespace": pid_namespace(), **self._vfs.status()}
        return padded(status, STATUS_BYTES)

    def _activity(self) -> bytes:
        metrics = self._vfs.session.metrics
        seconds, files = metrics.recent_reads.most_read(MAX_SHOWN)
        reads = [
            {"path": _last_chars(path), "bytes": count, "bytes_missed": missed}
            for path, count, missed in files
        ]
        requests = [
            {
                "kind": one.kind,
                "url": _last_chars(one.url),
                "start": one.start,
                "stop": one.stop,
                "seconds": round(one.seconds, 3),
                "result": one.result,
            }
            for one in metrics.slow_requests.slowest(MAX_SHOWN)
        ]
        return fitted({"seconds": round(seconds, 3)}, reads, requests, STATUS_BYTES)


def _last_chars(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else f"…{name[1 - MAX_NAME_CHARS :]}"


def fitted(document: dict[str, Any], reads: list[Any], requests: list[Any], size: int) -> bytes:
    """Return a document with two lists as JSON of exactly `size` bytes.

    The longer list loses its last element until both fit.
    """
    while True:
        lists = {"files": reads, "requests": requests}
        text = json.dumps({**document, **lists}, indent=1)
        if len(text) < size:
            return f"{text:{size - 1}}\n".encode()
        reads, requests = (
            (reads[:-1], requests) if len(reads) > len(requests) else (reads, requests[:-1])
        )


def padded(status: dict[str, Any], size: int) -> bytes:
    """Return counters as JSON of exactly `size` bytes; a long `last_error` is truncated."""
    text = json.dumps(status, indent=1)
    error = str(status.get("last_error", ""))
    while len(text) >= size and error:
        error = error[: len(error) * 7 // 8]
        text = json.dumps({**status, "last_error": error + "..."}, indent=1)
    return f"{text:{size - 1}}\n".encode()


def read_status(mountpoint: Path, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """Return the counters of the mount at `mountpoint`.

    `pid` is the pid in this namespace, None if the process is not visible.
    Raises MountError if no ego4dfs answers there: MountDead if its process has exited,
    MountUnresponsive after `timeout_s`.
    """
    found = read_statuses([mountpoint], timeout_s)[mountpoint]
    if isinstance(found, MountError):
        raise found
    return found


def read_statuses(
    mountpoints: Iterable[Path], timeout_s: float = ANSWER_S, *, activity: bool = False
) -> dict[Path, dict[str, Any] | MountError]:
    """Return what `read_status` returns or raises for each mount; all are read at once.

    A mount whose process is stopped is reported without a wait: it cannot answer. With `activity`
    the document has what is read now and the slowest requests as `activity`, which is empty if
    the mount is by an older version.
    """
    deadline = time.monotonic() + timeout_s
    calls = {path: ChildCall(partial(_read, path, activity=activity)) for path in mountpoints}
    return {path: _status_or_error(path, call, deadline, timeout_s) for path, call in calls.items()}


def _read(mountpoint: Path, *, activity: bool) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(_read_file(f"{mountpoint}{STATUS_PATH}"))
    if activity:
        try:
            status["activity"] = json.loads(_read_file(f"{mountpoint}{ACTIVITY_PATH}"))
        except FileNotFoundError:
            status["activity"] = {}
    return status


def _read_file(path: str) -> bytes:
    """Read a file with O_DIRECT, which bypasses the page cache and queued buffered reads."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        return os.read(fd, STATUS_BYTES)
    finally:
        os.close(fd)


def _status_or_error(
    mountpoint: Path, call: ChildCall[dict[str, Any]], deadline: float, timeout_s: float
) -> dict[str, Any] | MountError:
    try:
        left_s = 0.0 if _is_stopped(mountpoint) else max(0.0, deadline - time.monotonic())
        status = call.result(left_s)
    except TimeoutError:
        return _unresponsive(mountpoint, timeout_s)
    except (OSError, ValueError) as error:
        return _dead_or_other(mountpoint, error)
    process = _process_of(mountpoint)
    if process is not None:
        status["pid"] = process.pid
    elif status.get("pid_namespace", pid_namespace()) != pid_namespace():
        status["pid"] = None
    return status


def _process_of(mountpoint: Path) -> Process | None:
    mounted = mounted_at(mountpoint)
    return serving_process(mounted) if mounted else None


def _is_stopped(mountpoint: Path) -> bool:
    process = _process_of(mountpoint)
    return process is not None and process.is_stopped


def _unresponsive(mountpoint: Path, timeout_s: float) -> MountUnresponsive:
    process = _process_of(mountpoint)
    cause = f"no answer within {timeout_s:g} s; "
    if process is None:
        cause += "its process is not visible to this one"
        hint = f"`ego4dfs unmount --lazy {shell_word(str(mountpoint))}` unmounts it"
    elif process.is_stopped:
        cause = f"no answer; its process {process.pid} is stopped"
        hint = f"`kill -CONT {process.pid}` continues it"
    else:
        cause += f"its process {process.pid} is busy"
        hint = f"try again, or end it with `kill {process.pid}`"
    return MountUnresponsive(f"{mountpoint}: {cause}", hint=hint)


def _dead_or_other(mountpoint: Path, error: Exception) -> MountError:
    if isinstance(error, OSError) and error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
        return MountDead(
            f"{mountpoint}: the mount is dead, its process has exited",
            hint=f"mount it again, or remove it: ego4dfs unmount {shell_word(str(mountpoint))}",
        )
    reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
    is_denied = isinstance(error, PermissionError)
    hint = "it was mounted by another user, without --allow-other" if is_denied else ""
    return MountError(f"{mountpoint}: no ego4dfs answers there ({reason})", hint=hint)
