"""Adapters of Operations to the two FUSE bindings: without copies of data, and with our errnos."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ego4dfs.errors import errno_of
from ego4dfs.mount.operations import Operations
from ego4dfs.runtime.deadline import call_within

log = logging.getLogger(__name__)

REQUEST_BYTES = 1 << 20
BACKGROUND_REQUESTS = 2048
"""Maximum number of background requests of the kernel, buffered reads among them. At the limit
the kernel holds back all others, even those that the cache could answer."""
IDLE_WORKERS = 16
"""How many idle threads libfuse 3 keeps."""

_FILL_PLUS = 1 << 1  # FUSE_FILL_DIR_PLUS of libfuse 3: the attributes of the name are complete
_CAP_READDIRPLUS_AUTO = 1 << 14
_CAP_PARALLEL_DIROPS = 1 << 18


class MountpointArgument(str):
    """A path as the argument of a binding: both encode it as UTF-8, fusepy strictly."""

    __slots__ = ()

    @classmethod
    def of(cls, path: Path) -> MountpointArgument:
        """Return an argument that encodes to the bytes of `path`, in any locale."""
        return cls(os.fsencode(path).decode("utf-8", "surrogateescape"))

    def encode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> bytes:
        """Return the bytes of the path."""
        return super().encode(encoding, errors)


class _Libfuse2:
    """Operations for fusepy, which calls them by name instead of by attribute."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)

    def __call__(self, name: str, *arguments: Any) -> Any:
        return getattr(self._operations, name)(*arguments)


class _Libfuse3:
    """Operations for mfusepy: libfuse 3 takes some of its options only in `init`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)

    def init_with_config(self, connection: Any, config: Any) -> None:
        """Request large reads, many in parallel, and attributes with all names (readdirplus)."""
        del config
        connection.max_read = REQUEST_BYTES
        connection.max_readahead = REQUEST_BYTES
        connection.max_background = BACKGROUND_REQUESTS
        # By default the kernel requests attributes for the first names only: `ls -l` calls stat
        # after it has read a page of names, which the kernel's heuristic does not recognise.
        connection.want &= ~_CAP_READDIRPLUS_AUTO
        # Without it a lookup waits for all others in its directory, and so for their requests.
        # libfuse before 3.17 does not tell the kernel.
        connection.want |= connection.capable & _CAP_PARALLEL_DIROPS
        self._operations.init("/")


def libfuse_version(module: Any) -> tuple[int, int]:
    """Return the version of the library that a binding has loaded."""
    number = int(module._libfuse.fuse_version())  # noqa: SLF001 - the bindings do not return it
    return divmod(number, 100 if number >= 100 else 10)


def loop_exit(module: Any) -> Callable[[], object]:
    """Return a function that makes the loop exit. Must be called from within a callback."""
    library = module._libfuse  # noqa: SLF001 - the bindings have no such function
    return partial(library.fuse_exit, ctypes.c_void_p(library.fuse_get_context().contents.fuse))


def caller(module: Any) -> int:
    """Return the thread id of the program for which the present callback is called."""
    return int(module._libfuse.fuse_get_context().contents.pid)  # noqa: SLF001 - see above


def adapt_operations(operations: Operations, version: int) -> Any:
    """Return the operations in the form that the binding of this libfuse calls."""
    return _Libfuse3(operations) if version == 3 else _Libfuse2(operations)


def session_class(module: Any, version: int, call_s: float | None = None) -> Any:
    """Return the FUSE class of the binding, with reads into libfuse's buffer and our errnos.

    Waits in a call end after `call_s`, if it is given.
    """

    class Session(module.FUSE):  # type: ignore[misc]
        def read(self, path: Any, buffer: Any, size: int, offset: int, fip: Any) -> int:
            del path
            address = ctypes.addressof(buffer.contents)
            view = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
            operations: Operations = self.operations
            return operations.read_into(fip.contents.fh, offset, view)

        def _wrapper(self, func: Callable[..., Any], *arguments: Any) -> int:
            # Both bindings turn every exception except OSError into EINVAL, which means that the
            # arguments of the call were wrong. ctypes turns one that leaves this function into 0,
            # which means the end of the file: so a panic of obstore and a cancelled task of s3fs
            # are caught too, which are no subclasses of Exception.
            try:
                if call_s is None:
                    return func(*arguments) or 0
                with call_within(call_s):
                    return func(*arguments) or 0
            except BaseException as error:  # noqa: BLE001 - see above
                return -_number(func.__name__, error)

    return _with_attributes(module, Session) if version == 3 else Session


def _number(name: str, error: BaseException) -> int:
    """Return the errno of an error, and log it unless there is no memory for that."""
    try:
        number = errno_of(error) if isinstance(error, Exception) else errno.EIO
        log.debug("%s: %s", name, os.strerror(number), exc_info=error)
    except Exception:  # noqa: BLE001 - the call must end with an error
        return errno.EIO
    return number


def _with_attributes(module: Any, session: Any) -> Any:
    """Return the session class with readdirplus, which only libfuse 3 has.

    Known attributes are sent together with the names.
    """

    class Session3(session):  # type: ignore[misc]
        def readdir_fuse_3(
            self, path: bytes, buffer: Any, filler: Any, offset: int, fip: Any, flags: int
        ) -> int:
            # Names have offsets and are sent a page at a time: without offsets libfuse 3.14 drops
            # the attributes. Names are UTF-8 in any locale, as in the other calls.
            del flags
            operations: Operations = self.operations
            directory = path.decode("utf-8", "surrogateescape")
            names = operations.names(directory, fip.contents.fh)
            record = module.c_stat()
            sent: dict[str, int] = {}
            for number in range(offset, len(names)):
                entry, found = names[number]
                known = operations.attributes_for_listing(directory, entry.name, found)
                if known is None:
                    record.st_mode = stat.S_IFDIR if entry.is_dir else stat.S_IFREG
                    record.st_ino = entry.inode
                    sent = {}
                else:  # most have the owner and the mode of the one before
                    changed = dict(known.items() - sent.items())
                    module.set_st_attrs(record, changed, use_ns=True)
                    sent = known
                flag = _FILL_PLUS if known else 0
                if filler(buffer, entry.name.encode(), record, number + 1, flag):
                    break
            return 0

    return Session3
