"""NodeFetcher: carries out one plan on each node of a Dask cluster."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ego4dfs.cluster.dask_client import WORKERS_S, DaskCluster
from ego4dfs.cluster.nodes import Node, find_nodes
from ego4dfs.cluster.part import Part, digest, split
from ego4dfs.cluster.part_reports import PartReport, PartState
from ego4dfs.cluster.task_run import RUN_AGAIN, Task, TaskRun, reported
from ego4dfs.cluster.work import Begun, Work
from ego4dfs.errors import OutputError
from ego4dfs.prefetch import TO_FETCH, NodeReport, Plan, Problem, Report
from ego4dfs.runtime.deadline import Deadline

if TYPE_CHECKING:
    from distributed import Client, Future


@dataclass(slots=True)
class _NodeState:
    """One node in a run: its parts, and what ended it early."""

    node: Node
    workers: Deadline
    begun: Begun | None = None
    error: BaseException | None = None
    parts: dict[int, PartState] = field(default_factory=dict)
    tasks: list[Future[Any]] = field(default_factory=list)

    def report(self, files: int) -> Report:
        """Return the sum of what its parts have done; it has that many files to fetch."""
        found = Report(files)
        for part in self.parts.values():
            part.add_to(found)
        if self.begun is not None:
            found.counts.update(self.begun.statuses)
        return found


class NodeFetcher:
    """Fetches all files of a plan on each node: the workers that see the same directory.

    It has the interface of `Fetcher`. The workers of a node share its work, and take over the parts
    of those that are lost. A node that fails, or has no workers left, is named in `report.nodes`,
    and the others go on; if none is left, its error is `report.stopped_by`.
    """

    def __init__(self, plan: Plan, work: Work, *, cluster: DaskCluster, jobs: int) -> None:
        """Prepare a run: of `plan` all that exists is fetched, unless a node has it."""
        self._cluster = cluster
        self._work = work
        self._jobs = jobs
        self._plan = plan
        self._wanted = plan.count(*TO_FETCH)
        self.report = Report()
        self.report.leave_out(plan)
        self.report.files = len(self.report.problems)
        self._noted: list[Problem] = list(self.report.problems)
        self._nodes: dict[str, _NodeState] = {}
        self._lock = threading.Lock()  # guards the parts of all nodes

    @property
    def totals(self) -> Counter[str]:
        """What the parts of all nodes have counted beside."""
        found: Counter[str] = Counter()
        with self._lock:
            for state in self._nodes.values():
                for part in state.parts.values():
                    found.update(part.totals)
        return found

    def run(self, tick: Callable[[], None] = lambda: None) -> bool:
        """Fetch on all nodes, calling `tick` several times a second from this thread.

        Returns True: no thread of this process is left.
        """
        with reported(self._cluster, self.report) as stack:
            client = self._cluster.connect(stack)
            self._run(client, TaskRun(client, self._on_event), tick)
        return True

    def _run(self, client: Client, tasks: TaskRun, tick: Callable[[], None]) -> None:
        for node in find_nodes(client, self._work.place, tasks.id):
            self._nodes[node.name] = _NodeState(node, Deadline.after(WORKERS_S))
        for state in self._nodes.values():
            if state.node.error is None:
                self._begin(tasks, state)
            else:
                self._fail(tasks, state, state.node.error)
        try:
            while tasks.is_waiting and self.report.stopped_by is None:
                tasks.step()
                self._note_lost(tasks)
                self._update()
                tick()
        except KeyboardInterrupt as error:
            self.report.stop(error)
        if self.report.stopped_by is not None:
            tasks.end()
        self._update()

    def _part(self, tasks: TaskRun, state: _NodeState, plan: Plan, config: Any) -> Part:
        return Part(
            config,
            self._work.root,
            plan,
            0,
            1,
            "",
            self._jobs,
            "",
            tasks.id,
            tasks.stop,
            node=state.node.name,
            pin=self._work.pin,
        )

    def _begin(self, tasks: TaskRun, state: _NodeState) -> None:
        part = self._part(tasks, state, self._plan, self._cluster.config)
        task = Task(partial(self._submit, tasks, state), partial(self._fail, tasks, state))
        state.tasks.append(tasks.submit(self._work.begin, part, task, state.node.hosts))

    def _submit(self, tasks: TaskRun, state: _NodeState, begun: Begun) -> None:
        """Divide what a node lacks among its workers."""
        state.begun = begun
        items = {place for place, _ in enumerate(self._plan.items)} - begun.complete
        plans = split(_only(self._plan, items), state.node.workers)
        whole = self._part(tasks, state, self._plan, self._cluster.of_parts)
        whole = replace(whole, digest=digest(plans), unwritable=begun.unwritable)
        for index, plan in enumerate(plans):
            part = replace(whole, plan=plan, index=index, count=len(plans))
            take = partial(self._take, tasks, state, index)
            task = Task(take, partial(self._fail, tasks, state))
            state.tasks.append(tasks.submit(self._work.fetch, part, task, state.node.hosts))

    def _take(self, tasks: TaskRun, state: _NodeState, index: int, found: PartReport) -> None:
        with self._lock:
            state.parts.setdefault(index, PartState()).note(found, is_final=True)
        if found.stopped_by is not None and self.report.stopped_by is None:
            self._fail(tasks, state, found.stopped_by)

    def _fail(self, tasks: TaskRun, state: _NodeState, error: BaseException) -> None:
        """End the work of one node; the run ends if no other is left."""
        if state.error is None:
            state.error = error
            tasks.drop(state.tasks)
        if all(other.error is not None for other in self._nodes.values()):
            self.report.stop(error)

    def _note_lost(self, tasks: TaskRun) -> None:
        """Fail the nodes that have had no workers for a while."""
        present = tasks.hosts()
        for state in self._nodes.values():
            if present.intersection(state.node.hosts):
                state.workers = Deadline.after(WORKERS_S)
            elif state.workers.has_passed and any(not one.done() for one in state.tasks):
                text = f"{state.node.name}: no worker is left on this node"
                self._fail(tasks, state, OutputError(text, hint=RUN_AGAIN))

    def _on_event(self, event: Mapping[str, Any]) -> None:
        """Record what a worker says of its part."""
        with self._lock:
            parts = self._nodes[event["node"]].parts
            parts.setdefault(event["part"], PartState()).note(PartReport(**event["report"]))

    def _update(self) -> None:
        """Sum up what all nodes have done."""
        total = self.report
        with self._lock:
            found = {s.node.name: s.report(self._wanted) for s in self._nodes.values()}
        total.nodes = [self._node_report(name, one) for name, one in found.items()]
        total.files = len(self._noted) + self._wanted * len(found)
        needed = [s.begun.bytes_to_fetch for s in self._nodes.values() if s.begun is not None]
        total.total_bytes = sum(needed)
        total.counts = Counter(problem.status for problem in self._noted)
        total.problems = list(self._noted)
        total.active.clear()
        for name, one in found.items():
            total.counts += one.counts
            total.problems += [replace(p, reason=f"on {name}: {p.reason}") for p in one.problems]
            total.active.update((f"{name}:{path}", done) for path, done in one.active.items())
        for sum_of in ("fetched_bytes", "cached_bytes", "resumed_bytes"):
            setattr(total, sum_of, sum(getattr(one, sum_of) for one in found.values()))

    def _node_report(self, name: str, found: Report) -> NodeReport:
        moved = (found.fetched_bytes, found.cached_bytes, found.resumed_bytes)
        return NodeReport(name, found.files, found.counts, *moved, self._nodes[name].error)


def _only(plan: Plan, places: Collection[int]) -> Plan:
    """Return the items of a plan at these places."""
    numbers = iter(range(sum(len(dataset.items) for dataset in plan.datasets)))
    datasets = [
        replace(d, items=[item for item in d.items if next(numbers) in places])
        for d in plan.datasets
    ]
    return replace(plan, datasets=datasets)
