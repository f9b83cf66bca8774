"""libfuse's loop in a thread of its own, ended in time whatever its workers wait for."""

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

from ego4dfs.mount.mountinfo import mounts
from ego4dfs.mount.umount import umount

log = logging.getLogger(__name__)

GRACE_S = 1.5
"""How long the workers may take to answer what they are at, once the mount is to end."""
END_S = 4.5
"""How long after a signal the process may live."""

_WAKE_EVERY_S = 0.1
_DETACH_S = 1.0
_MOUNTINFO = Path("/proc/self/mountinfo")


class FuseLoop:
    """Runs libfuse's loop until a signal, an unmount or the loop itself ends it.

    libfuse joins its workers at the end, and a worker that waits for the store answers nobody
    until then. So the main thread keeps out of libfuse: it hears the signals, and leaves workers
    behind that do not come back within `GRACE_S`.
    """

    def __init__(self, mountpoint: Path, close: Callable[[], None]) -> None:
        """Get ready; `close` is called if the process must end without its workers."""
        self._mountpoint = mountpoint
        self._close = close
        self._device = ""
        self._exit: Callable[[], object] = lambda: None
        self._error: Exception | None = None
        self._ended, self._released = threading.Event(), threading.Event()
        self._signalled = False
        self._wakes, self._wake = os.pipe()

    def started(self, device: str, exit_loop: Callable[[], object]) -> None:
        """Note the device (`major:minor`) of the mount, and what makes the loop end."""
        self._device, self._exit = device, exit_loop

    def run(self, session: Callable[[], object]) -> None:
        """Call `session` and return when it has ended; raise what it raised.

        Ends the process instead when workers do not come back. From the main thread only.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note_signal)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        thread = threading.Thread(target=self._call, args=[session], name="fuse", daemon=True)
        thread.start()
        self._wait_for_end()
        if not self._has_ended(thread):
            self._leave_workers()
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
            os.write(self._wake, b"e")
            self._released.wait()  # signals may be on their way to this thread

    def _note_signal(self, number: int, frame: object) -> None:
        del frame
        if not self._signalled:
            self._signalled = True
            log.info("%s: the mount ends", signal.Signals(number).name)
            os.write(self._wake, b"s")
            try:
                threading.Thread(target=_end_process, name="end", daemon=True).start()
            except RuntimeError as error:  # no thread is to be had: the mount ends all the same
                log.warning("nothing bounds how long the end takes: %s", error)

    def _wait_for_end(self) -> None:
        """Return when there was a signal, the loop has ended, or the kernel asks no more."""
        with _MOUNTINFO.open("rb") as table:
            poll = select.poll()
            poll.register(self._wakes, select.POLLIN)
            poll.register(table, select.POLLPRI)  # the kernel's word for a change of mounts
            while poll.poll()[0][0] == table.fileno():
                if self._device and all(mount.device != self._device for mount in mounts()):
                    # Files may be open still. The device fails when the last one is closed; it
                    # is not watched before, because each request would wake this thread.
                    poll.unregister(table)
                    with suppress(ValueError):  # libfuse has closed it, and the loop ends
                        poll.register(_fuse_device(), 0)

    def _has_ended(self, thread: threading.Thread) -> bool:
        """Make the loop end, and tell whether it has within the time of grace."""
        deadline = time.monotonic() + GRACE_S
        while not self._ended.is_set() and time.monotonic() < deadline:
            self._exit()  # a mark that libfuse looks at when something wakes it
            signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
            self._ended.wait(_WAKE_EVERY_S)
        return self._ended.is_set()

    def _leave_workers(self) -> None:
        log.warning("%s ends, though some of its files are being read", self._mountpoint)
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


def _end_process() -> None:
    time.sleep(END_S)
    log.warning("the end took longer than %g s; what was to be written to the cache is lost", END_S)
    os._exit(0)
