"""DaskFetcher: carries out one plan on the workers of a Dask cluster, in one directory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ego4dfs.cluster.dask_client import WORKERS_S, DaskCluster
from ego4dfs.cluster.part import Part, digest, split
from ego4dfs.cluster.part_reports import PartReport, PartState
from ego4dfs.cluster.task_run import RUN_AGAIN, Task, TaskRun, reported
from ego4dfs.copies import Journal, Layout, unusable
from ego4dfs.errors import OutputError
from ego4dfs.files import write_atomic
from ego4dfs.prefetch import TO_FETCH, DatasetPlan, Fetcher, Plan, Problem, Report
from ego4dfs.runtime.deadline import Deadline
from ego4dfs.session import Session

if TYPE_CHECKING:
    from distributed import Client


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
        self._parts: dict[int, PartState] = {}
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
        with reported(self._cluster, self.report) as stack:
            client = self._cluster.connect(stack)
            tasks = TaskRun(client, self._on_event)
            mark = stack.enter_context(self._mark(tasks.id))
            self._fetch(client, tasks, mark, tick)
        return True

    def _fetch(self, client: Client, tasks: TaskRun, mark: str, tick: Callable[[], None]) -> None:
        from ego4dfs.cluster.worker import fetch_part  # noqa: PLC0415 - needs distributed

        for part in self._split(client, mark, tasks):
            tasks.submit(fetch_part, part, Task(partial(self._take, part), self.report.stop))
        try:
            self._wait(tasks, tick)
        except KeyboardInterrupt as error:
            self.report.stop(error)
        if self.report.stopped_by is not None:
            tasks.end()
            self._update()

    def _split(self, client: Client, mark: str, tasks: TaskRun) -> list[Part]:
        plans = split(self._plan, len(client.nthreads()))
        count, of_all = len(plans), digest(plans)
        root, jobs = self._layout.root, self._jobs
        config = self._cluster.of_parts
        return [
            Part(config, root, plan, index, count, of_all, jobs, mark, tasks.id, tasks.stop)
            for index, plan in enumerate(plans)
        ]

    @contextmanager
    def _mark(self, run: str) -> Iterator[str]:
        """Write a file by which a worker sees that it shares the directory; yield its path.

        Raises OutputError.
        """
        path = self._layout.state / f"dask-{run}"
        try:
            for old in self._layout.state.glob("dask-*"):  # of a client that was killed
                old.unlink(missing_ok=True)
            write_atomic(path, b"")
        except OSError as error:
            raise unusable(error, path) from error
        try:
            yield str(path.relative_to(self._layout.root))
        finally:
            path.unlink(missing_ok=True)

    def _on_event(self, event: dict[str, Any]) -> None:
        """Record what a worker says of its part."""
        self._note(event["part"], PartReport(**event["report"]))

    def _note(self, part: int, report: PartReport, *, is_final: bool = False) -> None:
        with self._lock:
            self._parts.setdefault(part, PartState()).note(report, is_final=is_final)

    def _wait(self, tasks: TaskRun, tick: Callable[[], None]) -> None:
        """Wait for all tasks, or until an error ends the run."""
        workers = Deadline.after(WORKERS_S)
        while tasks.is_waiting and self.report.stopped_by is None:
            tasks.step()
            self._update()
            tick()
            if tasks.hosts():
                workers = Deadline.after(WORKERS_S)
            elif workers.has_passed:
                text = f"--dask {self._cluster.address}: no worker is left"
                self.report.stop(OutputError(text, hint=RUN_AGAIN))

    def _take(self, part: Part, found: PartReport) -> None:
        """Take the result of a task; its error ends the run."""
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


def _without_fetches(dataset: DatasetPlan, unwritable: Collection[str]) -> DatasetPlan:
    """Return what needs no worker: all of a dataset that cannot be written."""
    if dataset.dataset in unwritable:
        return dataset
    return replace(dataset, items=[i for i in dataset.items if i.state not in TO_FETCH])
