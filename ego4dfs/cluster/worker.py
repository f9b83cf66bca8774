"""What a Dask worker runs: the download of one part, with the worker's own cache and key."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from ego4dfs.cluster.part import Part
from ego4dfs.cluster.part_reports import PartReport
from ego4dfs.cluster.worker_task import WorkerTask, check_worker
from ego4dfs.copies import Layout, ShardJournal, State
from ego4dfs.copies.journal import Journal
from ego4dfs.copies.journal_file import InUse
from ego4dfs.copies.record import Record
from ego4dfs.copies.rule import FileState, is_as_recorded
from ego4dfs.datasets import METADATA
from ego4dfs.prefetch import Fetcher, Item, Plan, ReleaseFiles
from ego4dfs.session import open_session

_IN_USE_S = 60.0
"""How long to wait for a process that still fetches this part, on a worker that Dask has lost."""


def fetch_part(part: Part) -> PartReport:
    """Fetch the files of a part into the directory, which other workers share.

    Files that an earlier attempt has finished are not fetched again, and unfinished ones are
    resumed. Raises Ego4DError if nothing can be fetched.
    """
    check_worker(part)
    task = WorkerTask(part)
    if task.must_end:
        return task.ended()
    layout = Layout(part.root, part.config.version)
    with closing(open_session(task.config)) as session, closing(_journal(layout, part)) as journal:
        with journal.exclusive():
            journal.begin_part((item.path for item in part.plan.items), part.digest)
        fetcher = Fetcher(
            session,
            layout,
            journal,
            with_current_states(part.plan, layout, journal),
            jobs=part.jobs,
            retry_for_s=part.config.retry_for_s,
            unwritable=part.unwritable,
        )
        fetcher.run(task.ticker(fetcher.report))
    if part.node and any(not item.dataset for item in part.plan.items):
        try:
            ReleaseFiles(layout).metadata()
        except OSError as error:
            fetcher.report.not_written(METADATA, error)
    return task.ended(fetcher.report)


def _journal(layout: Layout, part: Part) -> ShardJournal:
    """Open the journal of the part, also if its last process ends only now."""
    attempts = Retrying(
        retry=retry_if_exception_type(InUse),
        wait=wait_fixed(1.0),
        stop=stop_after_delay(_IN_USE_S),
        reraise=True,
    )
    paths = frozenset(item.path for item in part.plan.items)
    return attempts(ShardJournal, layout.state, part.index, part.count, paths)


def with_current_states(plan: Plan, layout: Layout, journal: Journal) -> Plan:
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
