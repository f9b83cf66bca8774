"""TaskRun: the tasks of one command on a Dask cluster, watched and ended together."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ego4dfs.cluster.dask_client import DaskCluster
from ego4dfs.errors import Ego4DError, OutputError
from ego4dfs.prefetch import Report
from ego4dfs.runtime.deadline import Deadline

if TYPE_CHECKING:
    from distributed import Client, Future

_TICK_S = 0.2
RUN_AGAIN = "run it again: what is complete is kept, and the rest is resumed"
_END_S = 60.0
"""How long to wait for the tasks to end after an interruption or an error, and for one result."""
_RESULT_S = 2.0
"""How long one attempt to fetch a result may take: meanwhile nothing else is looked at."""
_TIMEOUTS = (TimeoutError, asyncio.TimeoutError)  # two classes in Python 3.10


@dataclass(frozen=True, slots=True)
class Task:
    """What is called with the result of a task, or with its error."""

    take: Callable[[Any], None]
    fail: Callable[[BaseException], None]


class TaskRun:
    """The tasks of one command, used from one thread.

    `on_event` is called from a thread of Dask with what tasks say on the topic `id`. A task ends
    itself if the event `stop` is set, or if its client is gone.
    """

    def __init__(self, client: Client, on_event: Callable[[dict[str, Any]], None]) -> None:
        from distributed import Event  # noqa: PLC0415 - slow, and an extra

        self.id = uuid.uuid4().hex
        self._client = client
        self._stop = Event(f"ego4dfs-stop-{self.id}", client=client)
        self._waiting: dict[Future[Any], Task] = {}
        self._late: dict[Future[Any], Deadline] = {}  # results that did not arrive at once
        self._count = 0
        client.subscribe_topic(self.id, lambda event: on_event(event[1]))

    @property
    def stop(self) -> str:
        """The name of the event that ends all tasks."""
        return str(self._stop.name)

    @property
    def is_waiting(self) -> bool:
        """Whether some tasks have not ended."""
        return bool(self._waiting)

    def submit(
        self,
        function: Callable[[Any], Any],
        argument: object,
        task: Task,
        hosts: Collection[str] = (),
    ) -> Future[Any]:
        """Run a function on a worker, on one of these hosts if some are named."""
        self._count += 1
        future: Future[Any] = self._client.submit(
            function, argument, key=f"ego4dfs-{self.id}-{self._count}", workers=list(hosts) or None
        )
        self._waiting[future] = task
        return future

    def hosts(self) -> set[str]:
        """Return the hosts that have workers now."""
        return {host_of(address) for address in self._client.nthreads()}

    def step(self) -> None:
        """Hand over what has ended; wait a moment for it. Raises what `take` and `fail` do."""
        for future in _ended(self._waiting, _TICK_S):
            task = self._waiting.pop(future, None)  # `fail` of another one may have dropped it
            if task is not None:
                self._take(future, task)

    def drop(self, futures: Collection[Future[Any]]) -> None:
        """Cancel tasks: those that run end themselves, and their results are not taken."""
        for future in futures:
            self._waiting.pop(future, None)
        self._client.cancel(list(futures))

    def end(self) -> None:
        """Tell all tasks to end, and take the results of those that do in time."""
        self._stop.set()
        deadline = Deadline.after(_END_S)
        while self._waiting and not deadline.has_passed and self.hosts():
            self.step()

    def _take(self, future: Future[Any], task: Task) -> None:
        try:
            found = future.result(timeout=_RESULT_S)
        except CancelledError:
            raise
        except (Ego4DError, OSError, *_TIMEOUTS) as error:
            if future.status == "error":
                task.fail(error)
            elif isinstance(error, _TIMEOUTS) and not self._is_overdue(future):
                self._waiting[future] = task
            else:  # not of the task, but of the connection
                raise
        except Exception as error:  # noqa: BLE001 - Dask's own, such as KilledWorker
            text = f"the Dask cluster could not do a part: {type(error).__name__}: {error}"
            task.fail(OutputError(text, hint=f"see the logs of the workers, and {RUN_AGAIN}"))
        else:
            task.take(found)

    def _is_overdue(self, future: Future[Any]) -> bool:
        """Return whether the result of a task that has ended has not arrived within _END_S.

        If it was lost with its worker, the task waits for another one, and has not ended.
        """
        if not future.done():
            self._late.pop(future, None)
            return False
        return self._late.setdefault(future, Deadline.after(_END_S)).has_passed


@contextmanager
def reported(cluster: DaskCluster, report: Report) -> Iterator[ExitStack]:
    """Run the block; what ends it early is `report.stopped_by`. Its exit stack ends with it."""
    try:
        with ExitStack() as stack:
            yield stack
    except (KeyboardInterrupt, Ego4DError) as error:
        report.stop(error)
    except (CancelledError, OSError, *_TIMEOUTS):
        text = f"--dask {cluster.address}: the connection to the scheduler is lost"
        report.stop(OutputError(text, hint=RUN_AGAIN))


def host_of(address: str) -> str:
    """Return the host of a worker's address, such as tcp://10.0.0.7:4711."""
    return address.rpartition("://")[2].rpartition(":")[0].strip("[]")


def _ended(tasks: Collection[Future[Any]], timeout_s: float) -> set[Future[Any]]:
    """Return those that have ended, as soon as one has, or none after `timeout_s`."""
    from distributed import wait  # noqa: PLC0415 - slow, and an extra

    try:
        found: set[Future[Any]] = wait(list(tasks), timeout_s, return_when="FIRST_COMPLETED").done
    except _TIMEOUTS:
        return set()
    return found
