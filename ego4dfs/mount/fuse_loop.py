"""The libfuse loop in its own thread, which ends in bounded time even if its workers hang."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ego4dfs.files.mountinfo import entries, mounts
from ego4dfs.mount.umount import umount
from ego4dfs.runtime.signals import set_handler

log = logging.getLogger(__name__)

GRACE_S = 1.5
"""How long workers may take to finish their requests once the mount must end."""
END_S = 4.5
"""The process exits at most this long after a signal."""

_WAKE_EVERY_S = 0.1
_DETACH_S = 1.0
_MOUNTINFO = Path("/proc/self/mountinfo")


class FuseLoop:
    """Runs the libfuse loop until a signal, an unmount or the loop itself ends it.

    libfuse joins its workers at the end, and a worker that waits for the store does not return
    until it has an answer. So the main thread stays outside libfuse: it handles signals, and
    abandons workers that do not return within `GRACE_S`.
    """

    def __init__(self, mountpoint: Path, close: Callable[[], None]) -> None:
        """Prepare; `close` is called if the process must exit without its workers."""
        self._mountpoint = mountpoint
        self._close = close
        self._device = ""
        self._exit: Callable[[], object] = lambda: None
        self._exit_lock = threading.Lock()
        self._error: Exception | None = None
        self._ended, self._released = threading.Event(), threading.Event()
        self._signalled = False
        self._wake_reader, self._wake_writer = os.pipe()

    def started(self, device: str, exit_loop: Callable[[], object]) -> None:
        """Set the device (`major:minor`) of the mount, and the function that exits the loop."""
        self._device, self._exit = device, exit_loop

    def destroyed(self) -> None:
        """Forget the function that exits the loop: libfuse frees what it uses after this call."""
        with self._exit_lock:
            self._exit = lambda: None

    def run(self, session: Callable[[], object]) -> None:
        """Call `session` and return when it has returned; raise what it raised.

        Exits the process instead if workers do not return. Main thread only.
        """
        set_handler(self._note_signal, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        thread = threading.Thread(target=self._call, args=[session], name="fuse", daemon=True)
        thread.start()
        self._wait_for_end()
        if not self._has_ended(thread):
            self._exit_without_workers()
        self._released.set()
        if self._error is not None:
            raise self._error

    def _call(self, session: Callable[[], object]) -> None:
        try:
            session()
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            self._error = error
        finally:
            self._ended.set()
            os.write(self._wake_writer, b"e")
            self._released.wait()  # keeps the thread alive for pending signals

    def _note_signal(self, number: int, frame: object) -> None:
        del frame
        if not self._signalled:
            self._signalled = True
            log.info("%s: unmounting", signal.Signals(number).name)
            os.write(self._wake_writer, b"s")
            try:
                threading.Thread(target=_exit_after_deadline, name="deadline", daemon=True).start()
            except RuntimeError as error:  # no thread can be started: unmount without the deadline
                log.warning("unmounting without a deadline: %s", error)

    def _wait_for_end(self) -> None:
        """Return after a signal, when the loop has ended, or when the mount is gone."""
        with _MOUNTINFO.open("rb", buffering=0) as table:
            poll = select.poll()
            poll.register(self._wake_reader, select.POLLIN)
            poll.register(table, select.POLLPRI)  # set by the kernel when mounts change
            while True:
                if poll.poll()[0][0] != table.fileno():
                    return
                # Read through this descriptor: at the limit of open files there is no other one.
                table.seek(0)
                found = entries(table.read())
                if self._device and all(mount.device != self._device for mount in found):
                    # Files may still be open. The device reports an error when the last one is
                    # closed. It is not polled earlier: each request would wake this thread.
                    poll.unregister(table)
                    with suppress(ValueError, OSError):  # libfuse has closed it, and the loop ends
                        poll.register(_fuse_device(), 0)

    def _has_ended(self, thread: threading.Thread) -> bool:
        """Make the loop exit, and return whether it did within `GRACE_S`."""
        deadline = time.monotonic() + GRACE_S
        while not self._ended.is_set() and time.monotonic() < deadline:
            with self._exit_lock:
                self._exit()  # sets a flag that libfuse checks when a signal wakes it
            signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
            self._ended.wait(_WAKE_EVERY_S)
        return self._ended.is_set()

    def _exit_without_workers(self) -> None:
        log.warning("%s: exiting while files are being read", self._mountpoint)
        with suppress(OSError):  # no file can be opened: the mount ends with the process
            if any(mount.device == self._device for mount in mounts()):
                umount(self._mountpoint, lazy=True, timeout_s=_DETACH_S)
        self._close()
        logging.shutdown()
        os._exit(0)


def _fuse_device() -> int:
    """Return the descriptor of /dev/fuse that libfuse reads requests from."""
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.readlink(link) == "/dev/fuse":  # noqa: PTH115 - text, not Path
                return int(link.name)
    return -1


def _exit_after_deadline() -> None:
    time.sleep(END_S)
    log.warning("unmounting took longer than %g s; pending cache writes are lost", END_S)
    os._exit(0)
