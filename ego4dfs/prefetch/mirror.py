"""Mirror: the objects of a plan are written to a near tier, except chunks that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from ego4dfs.catalog import manifest_url
from ego4dfs.copies import State
from ego4dfs.errors import ObjectChanged, StoreError
from ego4dfs.near import NearStore
from ego4dfs.near.filler import Filler
from ego4dfs.prefetch.outage import Outage
from ego4dfs.prefetch.plan import TO_FETCH, Item, Plan
from ego4dfs.prefetch.report import Report, Status
from ego4dfs.prefetch.run_threads import RunThreads
from ego4dfs.session import Session

_THREADS = 16
_END_S = 60.0


class Mirror:
    """One run. An object that cannot be written does not stop the others."""

    def __init__(self, session: Session, store: NearStore, retry_for_s: float) -> None:
        """Write to the near tier of `store` what a plan, made with `session`, names."""
        self._facts = session.facts
        self._store = store
        self._filler = Filler(store)
        self._threads = RunThreads(self._stop)
        self.report = Report(outage=Outage(retry_for_s, self._threads.pool.stopping))

    def manifests(self, version: str, datasets: Iterable[str]) -> None:
        """Write the manifests of datasets, unless they are there. Raises StoreError."""
        for dataset in datasets:
            self._store.read(manifest_url(version, dataset))
        self._store.flush(_END_S)

    def run(self, plan: Plan, tick: Callable[[], None]) -> bool:
        """Write what is missing; return whether all threads have ended. See CacheRun.run."""
        self.report.files, self.report.share = plan.count(*State), plan.share
        self.report.total_bytes = plan.bytes(*TO_FETCH)
        self.report.leave_out(plan)
        tasks = (partial(self._write, item) for item in plan.items if item.state in TO_FETCH)
        self._threads.pool.add("near-fill", lambda: next(tasks, None), _THREADS)
        has_ended = self._threads.run(tick, lambda: 0.5 if self.report.stopped_by else _END_S)
        self._store.shared.close()
        self._store.writes.flush(0.5 if self.report.stopped_by else _END_S)
        return has_ended

    def _stop(self, error: BaseException) -> None:
        self.report.stop(error)

    def _write(self, item: Item) -> None:
        if item.facts is None:
            raise ValueError(f"{item.path}: its facts are unknown")
        self.report.begin(item.path, item.size)
        fetched = 0
        try:
            for moved in self._filler.fill(item.url, item.facts, self.report.outage.attempt):
                fetched += moved.fetched
                self.report.moved(item.path, fetched=moved.fetched, resumed=moved.present)
                if self._threads.pool.stopping.is_set():
                    return
        except StoreError as error:
            self._failed(item, error)
            return
        finally:
            self.report.end(item.path)
        self._threads.succeeded()
        self.report.done(Status.DONE if fetched else Status.SKIPPED)

    def _failed(self, item: Item, error: StoreError) -> None:
        if isinstance(error, ObjectChanged):
            self._facts.correct(item.url, error)  # the next run plans with the right facts
        if self._threads.is_failure(error):
            self.report.give_up(item, error)
            self._threads.failed(error)
