"""WorkerTask: what all tasks on a Dask worker do beside their work."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from distributed import Event, get_worker

from ego4dfs.cluster.part import Part, installed
from ego4dfs.cluster.part_reports import PartReport
from ego4dfs.cluster.worker_config import worker_config
from ego4dfs.config import Config
from ego4dfs.errors import OutputError
from ego4dfs.prefetch import Report
from ego4dfs.session import Session

_TELL_EVERY_S = 0.5
_LOOP_S = 10.0
_RUNNING = ("executing", "long-running")


class WorkerTask:
    """One attempt of a task: tells the client the progress, and ends if nobody waits for it.

    Used from the thread of the task.
    """

    def __init__(self, part: Part) -> None:
        """Begin; must be called by the task."""
        _stop_profiler()
        self._part = part
        self._worker = get_worker()
        self._key = self._worker.get_current_task()
        self._stop = Event(part.stop)
        self._attempt = uuid.uuid4().hex
        self._next_s = 0.0

    @property
    def config(self) -> Config:
        """The Config of the part, with the cache that EGO4DFS_CACHE_DIR names on this machine."""
        return worker_config(self._part.config)

    @property
    def must_end(self) -> bool:
        """Whether the client has asked for it, has cancelled the task, or is gone."""
        known = self._worker.state.tasks.get(self._key)
        if known is None or known.state not in _RUNNING:
            return True
        return bool(self._stop.is_set())

    def ticker(
        self, report: Report, totals: Callable[[], Mapping[str, int]] = dict
    ) -> Callable[[], None]:
        """Return a function that tells the client the progress, and ends the run if it must."""

        def tick() -> None:
            now_s = time.monotonic()
            if now_s < self._next_s:
                return
            self._next_s = now_s + _TELL_EVERY_S
            latest = replace(PartReport.of(report, self._attempt), totals=dict(totals()))
            said = {"node": self._part.node, "part": self._part.index, "report": asdict(latest)}
            self.say(said)
            if self.must_end:
                raise KeyboardInterrupt

        return tick

    def say(self, event: dict[str, object]) -> None:
        """Tell the client something; plain values only."""
        self._worker.log_event(self._part.topic, event)

    def ended(
        self, report: Report | None = None, totals: Mapping[str, int] | None = None
    ) -> PartReport:
        """Return the final report; without one nothing was done."""
        if report is None:
            return PartReport(self._attempt, stopped_by=KeyboardInterrupt())
        final = PartReport.of(report, self._attempt, is_final=True)
        return replace(final, totals=dict(totals or {}))


def check_worker(part: Part) -> None:
    """Raise OutputError for a worker with another directory, or another version of ego4dfs."""
    name = f"the Dask worker {get_worker().address}"
    if part.release != installed():
        raise OutputError(
            f"{name} has ego4dfs {installed()}, and this command is ego4dfs {part.release}",
            hint="install the same version for all workers",
        )
    if part.mark and not (part.root / part.mark).is_file():
        raise OutputError(
            f"{part.root}: {name} does not see the directory that this command writes to",
            hint="-o must be a directory that all workers share, such as one on NFS or Lustre;"
            " with --each-node each node fetches all files into a directory of its own",
        )


def _stop_profiler() -> None:
    """Stop Dask's sampling of all threads, every 10 ms.

    `sys._current_frames` can wait for ever if a thread starts meanwhile, and the whole process with
    it: seen with Python 3.11.7.
    """
    worker, stopped = get_worker(), threading.Event()

    def stop() -> None:
        for name in ("profile", "profile-cycle"):
            if name in worker.periodic_callbacks:
                worker.periodic_callbacks[name].stop()
        stopped.set()

    worker.loop.add_callback(stop)
    stopped.wait(_LOOP_S)


def load_manifests(session: Session, datasets: Sequence[str]) -> None:
    """Load the manifests of these datasets with the key of this machine; raise the first error."""
    for error in session.catalog.load(datasets).values():
        raise error
