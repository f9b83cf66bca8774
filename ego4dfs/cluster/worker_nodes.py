"""What a Dask worker runs once for its node: it prepares the node's own directory of copies."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace

from ego4dfs.cluster.part import Part
from ego4dfs.cluster.work import Begun
from ego4dfs.cluster.worker import with_current_states
from ego4dfs.cluster.worker_config import worker_config
from ego4dfs.cluster.worker_task import WorkerTask, check_worker, load_manifests
from ego4dfs.copies import Layout, State, open_whole, unusable
from ego4dfs.datasets import PRIMARY
from ego4dfs.prefetch import TO_FETCH, Destination, Plan, ReleaseFiles, disks_of, without_space
from ego4dfs.session import Session, open_session


def begin_copies(part: Part) -> Begun:
    """Prepare the directory of a node: manifests, what is selected, and what is there already.

    Raises Ego4DError if the node cannot be used: its key is refused, its disk is full.
    """
    check_worker(part)
    WorkerTask(part)
    layout = Layout(part.root, part.config.version)
    try:
        layout.prepare(())
        config = replace(worker_config(part.config), manifest_override_path=None)
        with closing(open_session(config)) as session:
            return _begun(part, layout, session)
    except OSError as error:
        raise unusable(error, part.root) from error


def _begun(part: Part, layout: Layout, session: Session) -> Begun:
    config = part.config
    with closing(open_whole(layout.state)) as journal:
        with suppress(OSError):  # the one in the root is found without it, and fails alone
            ReleaseFiles(layout).offer_metadata()
        plan = with_current_states(part.plan, layout, journal)
        full = without_space(disks_of(plan, layout, journal.partial_bytes()))
        unwritable = {name: error for disk in full for name, error in disk.errors().items()}
        wanted = {d.dataset for d in plan.datasets if d.dataset and d.count(*TO_FETCH)}
        override = config.manifest_override_path
        load_manifests(session, config.datasets)
        listings = [session.catalog.listing(name) for name in config.datasets]
        destination = Destination(layout, writes_manifests=override is None)
        unwritable |= destination.prepare(listings, wanted)
        destination.remember(plan, is_all=not (config.is_filtered or override))
        if config.manifest:
            ReleaseFiles(layout).top_manifest(session.catalog.listing(PRIMARY))
        with suppress(OSError):  # it is reported where it is fetched
            ReleaseFiles(layout).metadata()
    return begun_of(plan, unwritable)


def begun_of(plan: Plan, unwritable: dict[str, OSError] | None = None) -> Begun:
    """Return the state of a node that has this of a plan."""
    complete = frozenset(place for place, i in enumerate(plan.items) if i.state is State.RIGHT)
    return Begun(complete, plan.bytes(*TO_FETCH) - plan.partial_bytes, unwritable or {})
