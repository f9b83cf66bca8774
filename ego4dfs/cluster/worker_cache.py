"""What a Dask worker runs to fill the cache of its node: blocks of files, or indexes of videos."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from ego4dfs.cluster.part import Part
from ego4dfs.cluster.part_reports import PartReport
from ego4dfs.cluster.work import Begun
from ego4dfs.cluster.worker_config import worker_config
from ego4dfs.cluster.worker_nodes import begun_of
from ego4dfs.cluster.worker_task import WorkerTask, check_worker, load_manifests
from ego4dfs.prefetch import CacheWarmer, IndexTotals, IndexWarmer
from ego4dfs.prefetch.cache_room import bytes_to_fetch, check_disk
from ego4dfs.session import Session, open_session


def begin_cache(part: Part) -> Begun:
    """Return what the cache of this node has of a plan, whose facts and manifests it gets.

    Raises CacheError if it has no room for the plan, and what the node's key is refused with.
    """
    with closing(_session(part)) as session:
        warmer = _warmer(part, session)
        plan = warmer.compared(part.plan)
        warmer.check_room(plan, pin=part.pin)
        check_disk(session, bytes_to_fetch(plan), worker_config(part.config).cache_dir)
    begun = begun_of(plan)
    return replace(begun, complete=frozenset()) if part.pin else begun  # they are pinned too


def begin_indexes(part: Part) -> Begun:
    """Give the cache of this node the facts and manifests of a plan."""
    _session(part).close()
    return Begun()


def fetch_blocks(part: Part) -> PartReport:
    """Fetch what the cache of this node lacks of a part. Raises Ego4DError."""
    check_worker(part)
    task = WorkerTask(part)
    if task.must_end:
        return task.ended()
    with closing(open_session(task.config)) as session:
        warmer = _warmer(part, session)
        plan = warmer.compared(part.plan)
        warmer.run(plan, task.ticker(warmer.report), pin=part.pin)
    return task.ended(warmer.report)


def fetch_indexes(part: Part) -> PartReport:
    """Fetch the indexes of the videos of a part that the cache lacks. Raises Ego4DError."""
    check_worker(part)
    task = WorkerTask(part)
    if task.must_end:
        return task.ended()
    totals = IndexTotals()
    with closing(open_session(task.config)) as session:
        warmer = IndexWarmer(session, totals.add, retry_for_s=part.config.retry_for_s)
        warmer.run(part.plan, task.ticker(warmer.report, totals.document), pin=part.pin)
    return task.ended(warmer.report, totals.document())


def _session(part: Part) -> Session:
    """Open a session, and have in its cache the manifests and facts that a mount needs."""
    check_worker(part)
    WorkerTask(part)
    session = open_session(replace(worker_config(part.config), manifest_override_path=None))
    try:
        load_manifests(session, part.config.datasets)
        for item in part.plan.items:
            if item.facts is not None:
                session.facts.record(item.url, item.facts)
    except BaseException:
        session.close()
        raise
    return session


def _warmer(part: Part, session: Session) -> CacheWarmer:
    config = part.config
    return CacheWarmer(
        session, retry_for_s=config.retry_for_s, compares_etags=config.verify == "auto"
    )
