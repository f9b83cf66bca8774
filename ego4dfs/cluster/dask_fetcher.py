"""DaskFetcher: carries out one plan on the workers of a Dask cluster."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ego4dfs.cluster.dask_client import WORKERS_S, DaskCluster
from ego4dfs.cluster.part import Part, PartReport, digest, split
from ego4dfs.copies import Journal, Layout
from ego4dfs.errors import Ego4DError, OutputError
from ego4dfs.files import write_atomic
from ego4dfs.prefetch import TO_FETCH, DatasetPlan, Fetcher, Plan, Problem, Report, Status
from ego4dfs.runtime.deadline import Deadline
from ego4dfs.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client, Future

_TICK_S = 0.2
_RUN_AGAIN = "run it again: what is complete is kept, and the rest is resumed"
_END_S = 60.0
"""How long to wait for the tasks to end after an interruption or an error."""


@dataclass(slots=True)
class _PartState:
    """The latest report of each attempt of one part; whenever its worker is lost, one is added."""

    attempts: dict[str, PartReport] = field(default_factory=dict)
    has_ended: bool = False

    def note(self, latest: PartReport, *, is_final: bool = False) -> None:
        """Record a report; one that comes after the final one is older."""
        if self.has_ended:
            return
        if is_final:  # it counts, even if a later attempt was begun meanwhile
            self.attempts.pop(latest.attempt, None)
        self.attempts[latest.attempt] = latest
        self.has_ended = is_final

    def add_to(self, report: Report) -> None:
        """Add what was done. What an earlier attempt has fetched, the latest one has found."""
        *earlier, latest = self.attempts.values()
        fetched_before = sum(one.fetched_bytes for one in earlier)
        done = min(latest.skipped, sum(one.done for one in earlier))
        report.counts[Status.DONE] += latest.done + done
        report.counts[Status.SKIPPED] += latest.skipped - done
        report.fetched_bytes += latest.fetched_bytes + fetched_before
        report.cached_bytes += latest.cached_bytes
        report.resumed_bytes += max(0, latest.resumed_bytes - fetched_before)
        report.active.update((path, list(counts)) for path, counts in latest.active.items())
        report.counts.update(problem.status for problem in latest.problems)
        report.problems += latest.problems


class DaskFetcher:
    """Carries out one plan as `Fetcher` does, with the same report, on a Dask cluster.

    The plan is divided into parts of about equally many bytes. A part whose worker is lost is
    taken over by another one, which resumes it. No credentials are sent: each worker uses those of
    its machine. The records of the parts are moved into the journal of the directory as they end.
    """

    def __init__(
        self,
        session: Session,
        layout: Layout,
        journal: Journal,
        plan: Plan,
        *,
        cluster: DaskCluster,
        jobs: int,
        unwritable: Mapping[str, OSError],
    ) -> None:
        """Prepare a run; `journal` is closed when the workers begin, which write their own."""
        self._cluster = cluster
        self._layout = layout
        self._journal = journal
        self._jobs = jobs
        self._rest = Fetcher(
            session,
            layout,
            journal,
            replace(plan, datasets=[_without_fetches(d, unwritable) for d in plan.datasets]),
            jobs=jobs,
            unwritable=unwritable,
        )
        writable = [d for d in plan.datasets if d.dataset not in unwritable]
        self._plan = replace(plan, datasets=writable)
        self.report = Report(self._rest.report.files + self._plan.count(*TO_FETCH))
        self.report.total_bytes = self._plan.bytes(*TO_FETCH)
        self._noted: list[Problem] = []
        self._parts: dict[int, _PartState] = {}
        self._lock = threading.Lock()  # guards _parts

    def run(self, tick: Callable[[], None] = lambda: None) -> bool:
        """Fetch the files of the plan, calling `tick` several times a second from this thread.

        Returns whether all tasks have ended. What ends the run is `report.stopped_by`.
        """
        ended = self._rest.run()
        self._noted = list(self.report.problems)  # by the caller, before the run
        self._journal.close()
        self._update()
        if self._rest.report.stopped_by is not None:
            self.report.stop(self._rest.report.stopped_by)
            return ended
        if not self._plan.count(*TO_FETCH):
            return ended
        try:
            with ExitStack() as stack:
                self._fetch(self._cluster.connect(stack), stack, tick)
        except (KeyboardInterrupt, Ego4DError) as error:
            self.report.stop(error)
        except (CancelledError, OSError, TimeoutError):
            text = f"--dask {self._cluster.address}: the connection to the scheduler is lost"
            self.report.stop(OutputError(text, hint=_RUN_AGAIN))
        return True

    def _fetch(self, client: Client, stack: ExitStack, tick: Callable[[], None]) -> None:
        from distributed import Event  # noqa: PLC0415 - slow, and an extra

        from ego4dfs.cluster.worker import fetch_part  # noqa: PLC0415 - needs distributed

        run = uuid.uuid4().hex
        stop = Event(f"ego4dfs-stop-{run}", client=client)
        client.subscribe_topic(run, self._on_event)
        parts = self._split(client, stack.enter_context(self._mark(run)), run, stop.name)
        tasks = {client.submit(fetch_part, p, key=f"ego4dfs-{run}-{p.index}"): p for p in parts}
        try:
            self._wait(client, tasks, tick)
        except KeyboardInterrupt as error:
            self.report.stop(error)
        if self.report.stopped_by is not None:
            stop.set()
            self._collect(client, tasks)

    def _split(self, client: Client, mark: str, topic: str, stop: str) -> list[Part]:
        plans = split(self._plan, len(client.nthreads()))
        count, of_all = len(plans), digest(plans)
        root, jobs = self._layout.root, self._jobs
        # The parts have the files that these options select.
        config = replace(self._cluster.config, video_uids=(), clip_uids=(), include=(), exclude=())
        return [
            Part(config, root, plan, index, count, of_all, jobs, mark, topic, stop)
            for index, plan in enumerate(plans)
        ]

    @contextmanager
    def _mark(self, run: str) -> Iterator[str]:
        """Write a file by which a worker sees that it shares the directory; yield its path."""
        for old in self._layout.state.glob("dask-*"):  # of a client that was killed
            old.unlink(missing_ok=True)
        path = self._layout.state / f"dask-{run}"
        write_atomic(path, b"")
        try:
            yield str(path.relative_to(self._layout.root))
        finally:
            path.unlink(missing_ok=True)

    def _on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        """Record what a worker says of its part."""
        self._note(event[1]["part"], PartReport(**event[1]["report"]))

    def _note(self, part: int, report: PartReport, *, is_final: bool = False) -> None:
        with self._lock:
            self._parts.setdefault(part, _PartState()).note(report, is_final=is_final)

    def _wait(
        self, client: Client, tasks: Mapping[Future[PartReport], Part], tick: Callable[[], None]
    ) -> None:
        """Wait for all tasks, or until an error ends the run."""
        waiting, workers = dict(tasks), Deadline.after(WORKERS_S)
        while waiting and self.report.stopped_by is None:
            for task in _ended(waiting, _TICK_S):
                self._take(waiting.pop(task), task)
            self._update()
            tick()
            if client.nthreads():
                workers = Deadline.after(WORKERS_S)
            elif workers.has_passed:
                text = f"--dask {self._cluster.address}: no worker is left"
                self.report.stop(OutputError(text, hint=_RUN_AGAIN))

    def _collect(self, client: Client, tasks: Mapping[Future[PartReport], Part]) -> None:
        """Take the results of the tasks that end in time."""
        waiting = dict(tasks)
        deadline = Deadline.after(_END_S)
        while waiting and not deadline.has_passed and client.nthreads():
            for task in _ended(waiting, _TICK_S):
                self._take(waiting.pop(task), task)
        self._update()

    def _take(self, part: Part, task: Future[PartReport]) -> None:
        """Take the result of a task; an error ends the run."""
        try:
            found: PartReport = task.result(timeout=_END_S)
        except CancelledError:
            raise
        except (Ego4DError, OSError) as error:
            if task.status != "error":  # not of the task, but of the connection
                raise
            self.report.stop(error)
        except Exception as error:  # noqa: BLE001 - Dask's own, such as KilledWorker
            text = f"the Dask cluster could not fetch a part: {type(error).__name__}: {error}"
            self.report.stop(
                OutputError(text, hint=f"see the logs of the workers, and {_RUN_AGAIN}")
            )
        else:
            self._note(part.index, found, is_final=True)
            if found.stopped_by is not None:
                self.report.stop(found.stopped_by)

    def _update(self) -> None:
        """Sum up what all parts have done."""
        rest, total = self._rest.report, self.report
        total.counts = rest.counts + Counter(problem.status for problem in self._noted)
        total.problems = [*self._noted, *rest.problems]
        total.fetched_bytes = total.cached_bytes = total.resumed_bytes = 0
        total.active.clear()
        with self._lock:
            for part in self._parts.values():
                part.add_to(total)


def _ended(tasks: Collection[Future[PartReport]], timeout_s: float) -> set[Future[PartReport]]:
    """Return those that have ended, as soon as one has, or none after `timeout_s`."""
    from distributed import wait  # noqa: PLC0415 - slow, and an extra

    try:
        found: set[Future[PartReport]] = wait(
            list(tasks), timeout_s, return_when="FIRST_COMPLETED"
        ).done
    except TimeoutError:
        return set()
    return found


def _without_fetches(dataset: DatasetPlan, unwritable: Collection[str]) -> DatasetPlan:
    """Return what needs no worker: all of a dataset that cannot be written."""
    if dataset.dataset in unwritable:
        return dataset
    return replace(dataset, items=[i for i in dataset.items if i.state not in TO_FETCH])
