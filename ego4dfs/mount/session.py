"""One mount from the first call to the kernel until the unmount."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ego4dfs.errors import MountError
from ego4dfs.mount.binding import Binding
from ego4dfs.mount.mountpoint import device_of
from ego4dfs.mount.operations import Operations, errno_of
from ego4dfs.vfs import VFS

log = logging.getLogger(__name__)

ATTRIBUTES_KEPT_S = 3600
"""How long the kernel believes names and attributes: a release does not change."""

_REQUEST_BYTES = 1 << 20
_BACKGROUND_REQUESTS = 64
_READ_AHEAD_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """How to mount. `nonempty` hides what the mountpoint holds; `allow_other` shows all users."""

    allow_other: bool = False
    nonempty: bool = False


def serve(
    vfs: VFS,
    mountpoint: Path,
    binding: Binding,
    options: MountOptions,
    on_start: Callable[[], None],
) -> None:
    """Mount and answer the kernel until somebody unmounts or SIGTERM, SIGINT or SIGHUP comes.

    Must be called from the main thread. `on_start` is called once the kernel has accepted the
    mount. Raises MountError when it does not.
    """
    module = binding.load()
    operations = Operations(vfs, lambda: _started(mountpoint, on_start))
    try:
        _session_class(module)(
            _Libfuse3(operations) if binding.version == 3 else _Libfuse2(operations),
            str(mountpoint),
            raw_fi=True,
            foreground=True,
            **_kernel_options(binding, options),
        )
    except RuntimeError as error:
        if operations.is_started:
            # libfuse 3 ends with a code of its own when a signal has told it to end.
            log.info("unmounted (libfuse's code: %s)", error)
            return
        raise MountError(
            f"{mountpoint}: libfuse {binding.version} could not mount (code {error})",
            hint="its own words are above, or in the log file; `ego4dfs mount --foreground` shows"
            " them, and --libfuse tries the other version",
        ) from error


def _kernel_options(binding: Binding, options: MountOptions) -> dict[str, Any]:
    kernel: dict[str, Any] = {
        "fsname": "ego4dfs",
        "subtype": "ego4dfs",
        "ro": True,
        "default_permissions": True,
        "use_ino": True,
        "attr_timeout": ATTRIBUTES_KEPT_S,
        "entry_timeout": ATTRIBUTES_KEPT_S,
        "negative_timeout": ATTRIBUTES_KEPT_S,
        "max_read": _REQUEST_BYTES,
        "allow_other": options.allow_other,
    }
    if binding.version == 2:
        kernel["nonempty"] = options.nonempty
        kernel["max_background"] = _BACKGROUND_REQUESTS
    return kernel


def _started(mountpoint: Path, on_start: Callable[[], None]) -> None:
    device = device_of(mountpoint)
    if device:
        # The kernel reads 128 KiB ahead unless told otherwise; only root may tell.
        with suppress(OSError):
            Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(_READ_AHEAD_KIB))
    on_start()


class _Libfuse2:
    """fusepy calls its operations by name instead of by attribute."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)

    def __call__(self, name: str, *arguments: Any) -> Any:
        return getattr(self._operations, name)(*arguments)


class _Libfuse3:
    """libfuse 3 takes some of its options in `init` only."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)

    def init_with_config(self, connection: Any, config: Any) -> None:
        """Ask for large requests, many at a time."""
        del config
        connection.max_read = _REQUEST_BYTES
        connection.max_readahead = _REQUEST_BYTES
        connection.max_background = _BACKGROUND_REQUESTS
        self._operations.init("/")


def _session_class(module: Any) -> Any:
    """Return the binding's FUSE with reads straight into the kernel's buffer, and our errnos."""

    class Session(module.FUSE):  # type: ignore[misc]
        def read(self, path: Any, buffer: Any, size: int, offset: int, fip: Any) -> int:
            del path
            address = ctypes.addressof(buffer.contents)
            view = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
            operations: Operations = self.operations
            return operations.read_into(fip.contents.fh, offset, view)

        def _wrapper(self, func: Callable[..., Any], *arguments: Any) -> int:
            # Both bindings turn every exception but OSError into EINVAL, which tells programs
            # that their call was wrong.
            try:
                return func(*arguments) or 0
            except Exception as error:
                number = errno_of(error)
                log.debug("%s: %s", func.__name__, os.strerror(number), exc_info=True)
                return -number

    return Session
