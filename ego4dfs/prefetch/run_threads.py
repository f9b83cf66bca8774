"""RunThreads: the threads of a run over many objects, and the errors that end all of it."""

from __future__ import annotations

from collections.abc import Callable

from ego4dfs.errors import CredentialsRejected, Ego4DError, StoreUnavailable
from ego4dfs.prefetch.failure_limit import FailureLimit
from ego4dfs.prefetch.outage import OutageTooLong
from ego4dfs.prefetch.worker_pool import WorkerPool

_MAX_CONSECUTIVE_FAILURES = 8


class RunThreads:
    """Runs a pool of threads, of which the failures of one object do not stop the others.

    `stop` gets what ends the run: KeyboardInterrupt, and errors that would fail every object.
    """

    def __init__(self, stop: Callable[[BaseException], None]) -> None:
        self.pool = WorkerPool(stop)
        self._stop = stop
        self._failure_limit = FailureLimit(_MAX_CONSECUTIVE_FAILURES)

    def run(self, tick: Callable[[], None], end: Callable[[], float]) -> bool:
        """Run the queues of the pool; return whether all threads have ended.

        Calls `tick` several times a second from this thread. When no task is left, or the run is
        stopped, `end` returns for how many seconds to wait for the threads. A second Ctrl-C ends
        that wait.
        """
        try:
            self.pool.run(tick)
        except (KeyboardInterrupt, OSError) as error:
            self._stop(error)
        self.pool.stop()
        try:
            return self.pool.ended(end())
        except KeyboardInterrupt as error:
            self._stop(error)
            return False

    def is_failure(self, error: Ego4DError) -> bool:
        """Return whether an error counts as the failure of one object.

        It does not if the run ends, and did not wait for the store. Raises an error that every
        object would have.
        """
        if isinstance(error, (CredentialsRejected, OutageTooLong)):
            raise error
        return not (isinstance(error, StoreUnavailable) and self.pool.stopping.is_set())

    def failed(self, error: Ego4DError) -> None:
        """Count a failure. Raises it if the store did not answer many times in a row."""
        if isinstance(error, StoreUnavailable) and self._failure_limit.failed():
            raise error

    def succeeded(self) -> None:
        """Begin a new count, after a success."""
        self._failure_limit.succeeded()
