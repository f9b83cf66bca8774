"""`ego4dfs prefetch --dask ADDRESS --each-node`: the whole selection on each node of a cluster."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ego4dfs.catalog import Listing, metadata_url
from ego4dfs.cli.output import ExitCode
from ego4dfs.cli.prefetch_printer import PrefetchPrinter, plan_code, report_code
from ego4dfs.cli.progress import Progress
from ego4dfs.cli.retry_commands import RetryCommands
from ego4dfs.cluster import DaskCluster, NodeFetcher, copies_of_nodes
from ego4dfs.config import Config
from ego4dfs.copies import Journal, Layout
from ego4dfs.errors import Ego4DError
from ego4dfs.prefetch import TO_FETCH, Outage, Plan, Planner, Report
from ego4dfs.session import Session
from ego4dfs.vfs import open_selected_session

EACH_LACKS = "each node fetches what it lacks"

Listings = Callable[[Session], tuple[list[Listing], dict[str, Ego4DError]]]


class ToNodes:
    """One run of the command."""

    def __init__(
        self,
        config: Config,
        layout: Layout,
        args: argparse.Namespace,
        printer: PrefetchPrinter,
        listings: Listings,
    ) -> None:
        """Fetch what `listings` returns for a session, on each node below the layout's root."""
        self._config = config
        self._layout = layout
        self._args = args
        self._printer = printer
        self._listings = listings

    def run(self, cluster: DaskCluster, retry: RetryCommands) -> int:
        """Plan, confirm, fetch and report."""
        directory = self._layout.root / self._layout.version_name
        self._printer.start(self._config.datasets, f"{directory} on each node")
        with_manifests_only = self._args.manifests_only
        session = open_selected_session(
            self._config, pass_refused=True, must_match=not with_manifests_only
        )
        try:
            listings, refused = self._listings(session)
            if not listings:
                again = retry.commands(Report(refused=refused), session.catalog.peek)
                return self._printer.all_refused(refused, again)
            self._printer.skipped_datasets(refused)
            plan = self._plan(session, [] if with_manifests_only else listings)
            dry = self._args.dry_run
            self._printer.plan(plan, None, room=EACH_LACKS, refused=refused, is_all=dry)
            if dry:
                return plan_code(plan, refused)
            asks = plan.count(*TO_FETCH) and not self._config.assume_yes
            if asks and not self._printer.confirms(plan):
                return ExitCode.OK
            names = tuple(listing.dataset for listing in listings)
            cluster = replace(cluster, config=replace(self._config, datasets=names))
            return self._fetch(session, plan, cluster, refused, retry)
        finally:
            session.close()

    def _plan(self, session: Session, listings: list[Listing]) -> Plan:
        """Plan to fetch all files; what a node has is found there."""
        url = metadata_url(self._config.version) if self._config.metadata else ""
        with Progress(self._printer.progress_stream) as progress, TemporaryDirectory() as empty:
            outage = Outage(self._config.retry_for_s)
            outage.on_wait = partial(progress.outage, outage)
            planner = Planner(
                session,
                Layout(Path(empty), self._config.version),
                Journal.empty(),
                skip_checks=self._config.skip_s3_checks,
                on_facts=progress.facts,
                outage=outage,
            )
            return planner.plan(listings, metadata_url=url)

    def _fetch(
        self,
        session: Session,
        plan: Plan,
        cluster: DaskCluster,
        refused: dict[str, Ego4DError],
        retry: RetryCommands,
    ) -> int:
        began_s = time.monotonic()
        fetcher = NodeFetcher(
            plan, copies_of_nodes(self._layout), cluster=cluster, jobs=self._args.jobs
        )
        report = fetcher.report
        report.refused.update(refused)
        with Progress(self._printer.progress_stream) as progress:
            fetcher.run(lambda: progress.show(report))
        again = retry.commands(report, session.catalog.peek)
        seconds = time.monotonic() - began_s
        return self._printer.report(report, seconds, again, code=report_code(report))
