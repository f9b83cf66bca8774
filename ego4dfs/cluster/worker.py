"""What a Dask worker runs: the download of one part, with the worker's own cache and key."""

from __future__ import annotations

import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from distributed import Event, get_worker
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from ego4dfs.cluster.part import Part, PartReport, installed
from ego4dfs.config import resolve
from ego4dfs.copies import Layout, ShardJournal, State
from ego4dfs.copies.journal import Journal
from ego4dfs.copies.journal_file import InUse
from ego4dfs.copies.record import Record
from ego4dfs.copies.rule import FileState, is_as_recorded
from ego4dfs.errors import OutputError
from ego4dfs.prefetch import Fetcher, Item, Plan
from ego4dfs.session import open_session

_TELL_EVERY_S = 0.5
_LOOP_S = 10.0
_IN_USE_S = 60.0
"""How long to wait for a process that still fetches this part, on a worker that Dask has lost."""


def fetch_part(part: Part) -> PartReport:
    """Fetch the files of a part into the shared directory.

    Files that an earlier attempt has finished are not fetched again, and unfinished ones are
    resumed. Raises Ego4DError if nothing can be fetched.
    """
    _check_worker(part)
    _stop_profiler()
    attempt = uuid.uuid4().hex
    if Event(part.stop).is_set():
        return PartReport(attempt, stopped_by=KeyboardInterrupt())
    config = replace(part.config, cache_dir=_cache_directory(part.config.cache_dir))
    layout = Layout(part.root, config.version)
    with closing(open_session(config)) as session, closing(_journal(layout, part)) as journal:
        with journal.exclusive():
            journal.begin_part((item.path for item in part.plan.items), part.digest)
        plan = _without_finished(part.plan, layout, journal)
        fetcher = Fetcher(
            session, layout, journal, plan, jobs=part.jobs, retry_for_s=config.retry_for_s
        )
        fetcher.run(_ticker(part, fetcher, attempt))
    return PartReport.of(fetcher.report, attempt, is_final=True)


def _cache_directory(of_client: Path) -> Path:
    """Return the cache that EGO4DFS_CACHE_DIR names on this machine, else that of the client."""
    return resolve({}).cache_dir if os.environ.get("EGO4DFS_CACHE_DIR") else of_client


def _check_worker(part: Part) -> None:
    """Raise OutputError for a worker with another directory, or another version of ego4dfs."""
    name = f"the Dask worker {get_worker().address}"
    if part.release != installed():
        raise OutputError(
            f"{name} has ego4dfs {installed()}, and this command is ego4dfs {part.release}",
            hint="install the same version for all workers",
        )
    if not (part.root / part.mark).is_file():
        raise OutputError(
            f"{part.root}: {name} does not see the directory that this command writes to",
            hint="-o must be a directory that all workers share, such as one on NFS or Lustre",
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


def _journal(layout: Layout, part: Part) -> ShardJournal:
    """Open the journal of the part, also if its last process ends only now."""
    attempts = Retrying(
        retry=retry_if_exception_type(InUse),
        wait=wait_fixed(1.0),
        stop=stop_after_delay(_IN_USE_S),
        reraise=True,
    )
    return attempts(ShardJournal, layout.state, part.index, part.count)


def _without_finished(plan: Plan, layout: Layout, journal: Journal) -> Plan:
    """Return the plan with the states that the files have now."""
    directories = {item.directory for item in plan.items}
    records = {path: record for name in directories for path, record in journal.records(name)}
    return replace(
        plan,
        datasets=[
            replace(d, items=[_current(item, layout, records) for item in d.items])
            for d in plan.datasets
        ],
    )


def _current(item: Item, layout: Layout, records: Mapping[str, Record]) -> Item:
    """Return an item with the state RIGHT, or CHECK, if another attempt may have finished it."""
    record = records.get(item.path)
    facts = item.facts
    if facts is None and record is not None and record.url == item.url:
        facts = record.facts  # of an earlier attempt: the plan would have used an older record
    if facts is None:
        return item
    try:
        found = (layout.root / item.path).lstat()
    except OSError:
        return item
    if not stat.S_ISREG(found.st_mode) or found.st_size != facts.size:
        return item
    file = FileState(found.st_size, found.st_mtime_ns)
    if record is not None and record.facts.etag == facts.etag and is_as_recorded(file, record):
        return replace(item, state=State.RIGHT)
    return replace(item, state=State.CHECK)


def _ticker(part: Part, fetcher: Fetcher, attempt: str) -> Callable[[], None]:
    """Return a function that tells the client the progress, and ends the run if it asks for it."""
    worker, stop = get_worker(), Event(part.stop)
    next_s = [0.0]

    def tick() -> None:
        now_s = time.monotonic()
        if now_s < next_s[0]:
            return
        next_s[0] = now_s + _TELL_EVERY_S
        report = asdict(PartReport.of(fetcher.report, attempt))
        worker.log_event(part.topic, {"part": part.index, "report": report})
        if stop.is_set():
            raise KeyboardInterrupt

    return tick
