"""What a Dask worker runs: the download of one part, with the worker's own cache and key."""

from __future__ import annotations

import os
import stat
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from distributed import Event, get_worker
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from ego4dfs.cluster.part import Part, PartReport
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
_IN_USE_S = 60.0
"""How long to wait for a process that still fetches this part, on a worker that Dask has lost."""


def fetch_part(part: Part) -> PartReport:
    """Fetch the files of a part into the shared directory.

    Files that an earlier attempt has finished are not fetched again, and unfinished ones are
    resumed. Raises Ego4DError if nothing can be fetched.
    """
    _check_directory(part)
    attempt = uuid.uuid4().hex
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


def _check_directory(part: Part) -> None:
    """Raise OutputError unless the client has written its mark where this worker looks."""
    mark = part.root / part.mark
    if not mark.is_file():
        raise OutputError(
            f"{part.root}: the Dask worker {get_worker().address} does not see the directory that"
            " this command writes to",
            hint="-o must be a directory that all workers share, such as one on NFS or Lustre",
        )


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
    if item.facts is None:
        return item
    try:
        found = (layout.root / item.path).lstat()
    except OSError:
        return item
    if not stat.S_ISREG(found.st_mode) or found.st_size != item.facts.size:
        return item
    record = records.get(item.path)
    file = FileState(found.st_size, found.st_mtime_ns)
    if record is not None and record.facts.etag == item.facts.etag and is_as_recorded(file, record):
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
        report = PartReport.of(fetcher.report, attempt).message()
        worker.log_event(part.topic, {"part": part.index, "report": report})
        if stop.is_set():
            raise KeyboardInterrupt

    return tick
