"""DaskVerifier: the files of one shared directory are read and compared by many workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ego4dfs.cluster.dask_client import WORKERS_S, DaskCluster
from ego4dfs.cluster.part import Part, parts_for
from ego4dfs.cluster.task_run import RUN_AGAIN, Task, TaskRun, reported
from ego4dfs.copies import Layout
from ego4dfs.errors import OutputError
from ego4dfs.prefetch import DatasetPlan, Item, Plan, Report
from ego4dfs.prefetch.shard import assign
from ego4dfs.runtime.deadline import Deadline
from ego4dfs.verify import Compared

if TYPE_CHECKING:
    from distributed import Client

OnChecked = Callable[[int, int], None]
"""Gets how many files were compared, and how many there are, several times a second."""


@dataclass(slots=True)
class DaskVerifier:
    """Compares files as `compare_items` does, on the workers of a cluster.

    Each part is one task, which only reads: if its worker is lost, another one reads it again.
    """

    cluster: DaskCluster
    layout: Layout
    on_checked: OnChecked = field(default=lambda _done, _all: None)
    _found: dict[int, list[Compared]] = field(default_factory=dict)
    _said: dict[int, int] = field(default_factory=dict)

    def __call__(self, items: Sequence[Item]) -> list[Compared]:
        """Return the comparison of each item, in their order.

        Raises OutputError if the cluster is lost or sees another directory, and
        KeyboardInterrupt after the tasks have ended.
        """
        report = Report()
        if items:
            with reported(self.cluster, report) as stack:
                client = self.cluster.connect(stack)
                tasks = TaskRun(client, self._on_event)
                mark = stack.enter_context(_mark(self.layout, tasks.id))
                self._run(client, tasks, report, items, mark)
        if report.stopped_by is not None:
            raise report.stopped_by
        by_path = {one.path: one for found in self._found.values() for one in found}
        # A worker that lost this client has ended its task early.
        if any(item.path not in by_path for item in items):
            text = f"--dask {self.cluster.address}: not all files were checked"
            raise OutputError(text, hint=RUN_AGAIN)
        return [by_path[item.path] for item in items]

    def _run(
        self, client: Client, tasks: TaskRun, report: Report, items: Sequence[Item], mark: str
    ) -> None:
        from ego4dfs.cluster.worker_verify import verify_part  # noqa: PLC0415 - needs distributed

        plans = _split(items, len(client.nthreads()))
        for index, plan in enumerate(plans):
            part = self._part(tasks, plan, index, mark)
            task = Task(partial(self._found.__setitem__, index), report.stop)
            tasks.submit(verify_part, part, task)
        workers = Deadline.after(WORKERS_S)
        try:
            while tasks.is_waiting and report.stopped_by is None:
                tasks.step()
                said = {**self._said, **{index: len(one) for index, one in self._found.items()}}
                self.on_checked(sum(said.values()), len(items))
                if tasks.hosts():
                    workers = Deadline.after(WORKERS_S)
                elif workers.has_passed:
                    text = f"--dask {self.cluster.address}: no worker is left"
                    report.stop(OutputError(text, hint=RUN_AGAIN))
        except KeyboardInterrupt as error:
            report.stop(error)
        if report.stopped_by is not None:
            tasks.end()

    def _part(self, tasks: TaskRun, plan: Plan, index: int, mark: str) -> Part:
        config, root = self.cluster.of_parts, self.layout.root
        return Part(config, root, plan, index, 0, "", 1, mark, tasks.id, tasks.stop)

    def _on_event(self, event: dict[str, int]) -> None:
        self._said[event["part"]] = event["checked"]


def _split(items: Sequence[Item], workers: int) -> list[Plan]:
    """Return the items in parts of about equally many bytes."""
    sizes = {item.path: item.object_size for item in items}
    part_of = assign(sizes, parts_for(sizes, workers))
    kept: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        kept[part_of[item.path]].append(item)
    return [Plan([DatasetPlan("", len(some), some)]) for some in kept.values()]


@contextmanager
def _mark(layout: Layout, run: str) -> Iterator[str]:
    """Write a file by which a worker sees that it shares the directory; yield its path.

    It is empty for a directory that cannot be written: that of others, or a read-only disk.
    """
    path = layout.state / f"dask-{run}"
    try:
        path.touch()
    except OSError:
        yield ""
        return
    try:
        yield str(path.relative_to(layout.root))
    finally:
        path.unlink(missing_ok=True)
