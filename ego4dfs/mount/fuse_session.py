"""One FUSE session: its mount options, and serving it from the mount until the unmount."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ego4dfs.errors import MountError
from ego4dfs.files.mountinfo import device_of
from ego4dfs.mount import kernel_timeout
from ego4dfs.mount.binding import Binding, missing_privilege
from ego4dfs.mount.binding_adapters import (
    BACKGROUND_REQUESTS,
    IDLE_WORKERS,
    REQUEST_BYTES,
    MountpointArgument,
    adapt_operations,
    caller,
    libfuse_version,
    loop_exit,
    session_class,
)
from ego4dfs.mount.fuse_loop import FuseLoop
from ego4dfs.mount.kernel_readahead import KernelReadahead
from ego4dfs.mount.operations import WORKERS, Operations
from ego4dfs.mount.processes import set_process_name
from ego4dfs.mount.stderr_capture import StderrCapture
from ego4dfs.runtime.resource_limits import limit_reached
from ego4dfs.vfs import VFS

log = logging.getLogger(__name__)

ATTRIBUTES_KEPT_S = 3600
"""Timeout of names and attributes in the kernel's cache: a release does not change."""

_MAX_THREADS_SINCE = (3, 12)  # older versions start one thread per request without a limit


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """Mount options. `nonempty` allows a directory with files; `allow_other` admits other users."""

    allow_other: bool = False
    nonempty: bool = False


def serve(
    vfs: VFS,
    mountpoint: Path,
    binding: Binding,
    options: MountOptions,
    on_start: Callable[[], None],
) -> None:
    """Mount and serve the kernel until an unmount, SIGTERM, SIGINT or SIGHUP.

    Main thread only. `on_start` is called once the kernel has accepted the mount. Raises
    MountError if it does not, with the message of libfuse or fusermount, and if the start fails.
    """
    module = binding.load()
    failures: list[Exception] = []
    stderr = StderrCapture()
    # libfuse changes to `/`, in the foreground too; paths in settings may be relative.
    directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    loop = FuseLoop(mountpoint, vfs.close)
    exit_loop = partial(loop_exit, module)
    readahead = KernelReadahead()
    # libfuse 2 lets the kernel reset it to 128 KiB after `init`.
    adjusted = readahead if binding.version == 3 else None
    started = partial(_started, loop, exit_loop, mountpoint, directory, stderr, adjusted, on_start)
    operations = Operations(
        vfs,
        partial(_guarded, started, failures),
        partial(caller, module),
        readahead,
        loop.destroyed,
    )
    session = partial(
        session_class(module, binding.version, kernel_timeout.call_limit_s()),
        adapt_operations(operations, binding.version),
        MountpointArgument.of(mountpoint),
        raw_fi=True,
        foreground=True,
        **_kernel_options(binding.version, module, options),
    )
    try:
        loop.run(session)
    except RuntimeError as error:
        if not operations.is_started:
            raise _refused(mountpoint, binding, error, stderr.finish()) from error
        # libfuse 3 returns an error code of its own after a signal.
        log.info("unmounted (libfuse returned %s)", error)
    finally:
        stderr.release()
        os.close(directory)
    if failures:
        raise MountError(f"{mountpoint}: the mount failed while it started: {failures[0]!r}")


def _refused(mountpoint: Path, binding: Binding, error: Exception, output: str) -> MountError:
    limit = limit_reached(error)
    if limit is not None:
        return MountError(f"{mountpoint}: {limit}", hint=limit.hint)
    reason = output or f"no reason given, code {error}"
    return MountError(
        f"{mountpoint}: libfuse {binding.version} could not mount ({reason})",
        hint=missing_privilege(binding.version)
        or f"`ego4dfs doctor` checks this machine; --libfuse {5 - binding.version} tries the other"
        " version",
    )


def _kernel_options(version: int, module: Any, options: MountOptions) -> dict[str, Any]:
    kernel: dict[str, Any] = {
        "fsname": "ego4dfs",
        "subtype": "ego4dfs",
        "ro": True,
        "default_permissions": True,
        "use_ino": True,
        "attr_timeout": ATTRIBUTES_KEPT_S,
        "entry_timeout": ATTRIBUTES_KEPT_S,
        "negative_timeout": ATTRIBUTES_KEPT_S,
        "max_read": REQUEST_BYTES,
        "allow_other": options.allow_other,
    }
    if version == 2:
        kernel["nonempty"] = options.nonempty
        kernel["max_background"] = BACKGROUND_REQUESTS
    else:
        kernel["max_idle_threads"] = IDLE_WORKERS
        if libfuse_version(module) >= _MAX_THREADS_SINCE:
            kernel["max_threads"] = WORKERS
    return kernel


def _guarded(started: Callable[[], None], failures: list[Exception]) -> None:
    """Record a failure and end the mount: libfuse ignores exceptions in `init`."""
    try:
        started()
    except Exception as error:
        log.exception("the mount failed while it started")
        failures.append(error)
        os.kill(os.getpid(), signal.SIGTERM)


def _started(
    loop: FuseLoop,
    exit_loop: Callable[[], Callable[[], object]],
    mountpoint: Path,
    directory: int,
    stderr: StderrCapture,
    readahead: KernelReadahead | None,
    on_start: Callable[[], None],
) -> None:
    loop.started("", exit_loop())
    stderr.release()
    os.fchdir(directory)
    device = device_of(mountpoint)
    loop.started(device, exit_loop())
    set_process_name(device)
    if readahead is not None:
        readahead.attach(Path(f"/sys/class/bdi/{device}/read_ahead_kb"))
    on_start()
