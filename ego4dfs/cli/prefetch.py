"""`ego4dfs prefetch`: download the selected files, in the layout of the official tool."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ego4dfs.catalog import Listing, metadata_url
from ego4dfs.cli import parser_of, prefetch_cache
from ego4dfs.cli.copies_directory import copies_directory
from ego4dfs.cli.dask_option import add_dask, add_each_node, cluster_for_prefetch
from ego4dfs.cli.options import (
    add_cache,
    add_json,
    add_near,
    add_retry_for,
    add_selection,
    add_store,
    config_from,
)
from ego4dfs.cli.output import ExitCode, end_process
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.prefetch_cache import ToCache
from ego4dfs.cli.prefetch_indexes import IndexesToCache
from ego4dfs.cli.prefetch_nodes import ToNodes
from ego4dfs.cli.prefetch_printer import PrefetchPrinter, plan_code, report_code
from ego4dfs.cli.prefetch_windows import WindowsToCache
from ego4dfs.cli.progress import Progress
from ego4dfs.cli.retry_commands import RetryCommands
from ego4dfs.cli.shard_option import add_shard, begin_part, open_journal, shard_of
from ego4dfs.cli.signals import terminated_as_interrupted
from ego4dfs.cli.streams import output_is_optional
from ego4dfs.cluster import DaskCluster, DaskFetcher
from ego4dfs.config import Config
from ego4dfs.copies import Journal, Layout, unusable
from ego4dfs.datasets import MANIFEST, METADATA, PRIMARY
from ego4dfs.errors import ConfigError, CredentialsRejected, Ego4DError
from ego4dfs.prefetch import (
    JOBS,
    TO_FETCH,
    Destination,
    DiskSpace,
    Fetcher,
    Outage,
    Plan,
    Planner,
    ReleaseFiles,
    Report,
    Shard,
    disks_of,
    room_on,
    without_space,
)
from ego4dfs.session import Session
from ego4dfs.vfs import open_selected_session

_DEFAULT_DATASETS = ("annotations",)


def add_arguments(parser: Parser) -> None:
    """Add the options of `prefetch`."""
    add_selection(parser, copies=True, default="annotations", output="directory to download to")
    group = parser.add_argument_group("fetching")
    group.add_argument(
        "--dry-run", action="store_true", help="show what would be fetched, without fetching it"
    )
    group.add_argument(
        "--manifests-only", action="store_true", help="fetch manifests and ego4d.json only"
    )
    group.add_argument(
        "--to",
        choices=("directory", "cache"),
        default="directory",
        help="destination: files below -o (default), or blocks in the cache that mounts use",
    )
    prefetch_cache.add_arguments(group)
    add_shard(group, "fetch")
    add_dask(group, "fetch")
    add_each_node(group)
    group.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=JOBS,
        help="how many ranges of large files to fetch at once, 1 to 16; four times as many small"
        f" files are fetched at once (default: {JOBS})",
    )
    add_retry_for(group)
    add_json(group, "print the plan or the report as JSON")
    group.add_argument("--quiet", action="store_true", help="print errors only")
    add_store(parser)
    add_near(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, ask for confirmation, fetch and report."""
    to_cache = args.to == "cache"
    prefetch_cache.check_flags(args)
    if not args.dry_run:
        output_is_optional()
    config = config_from(args)
    cluster, shard = cluster_for_prefetch(args, config), shard_of(args.shard, os.environ)
    if shard is not None:
        args.shard = str(shard)  # a command that continues the run may be typed elsewhere
        config = replace(config, metadata=config.metadata and not shard.index)
    out = (
        config.cache_dir
        if to_cache
        else copies_directory(
            config,
            example="ego4dfs prefetch -o ~/ego4d_data --datasets annotations",
            or_else=", or choose another directory with -o",
        )
    )
    if args.jobs not in range(1, 17):
        raise ConfigError(f"--jobs {args.jobs}: must be a number from 1 to 16")
    printer = PrefetchPrinter(as_json=args.json, quiet=args.quiet, out=out, is_cache=to_cache)
    if not config.datasets and (args.windows or args.indexes):
        config = replace(config, datasets=(PRIMARY,))
    elif not config.datasets:
        config = replace(config, datasets=_DEFAULT_DATASETS)
        printer.say("No --datasets given: fetching annotations, as the official tool does.")
    command = _Command(config, Layout(out, config.version), printer, args, shard, cluster)
    if to_cache:
        with terminated_as_interrupted():
            into = _into_cache(args)(config, args, printer, command.listings, shard, cluster)
            return into.run(lambda state: RetryCommands(parser_of("prefetch"), args, config, state))
    if cluster is not None and args.each_node:
        retry = RetryCommands(parser_of("prefetch"), args, config, command.layout.state)
        with terminated_as_interrupted():
            return ToNodes(config, command.layout, args, printer, command.listings).run(
                cluster, retry
            )
    if args.dry_run:
        return command.show_plan()
    with terminated_as_interrupted():
        return command.fetch()


def _into_cache(args: argparse.Namespace) -> type[ToCache]:
    if args.windows:
        return WindowsToCache
    return IndexesToCache if args.indexes else ToCache


class _Command:
    """One run of the command."""

    def __init__(
        self,
        config: Config,
        layout: Layout,
        printer: PrefetchPrinter,
        args: argparse.Namespace,
        shard: Shard | None,
        cluster: DaskCluster | None,
    ) -> None:
        self._config = config
        self._shard = shard
        self._cluster = cluster
        self.layout = layout
        self._printer = printer
        self._args = args
        self._renamed: dict[str, str] = {}

    def show_plan(self) -> int:
        """Print the plan; nothing is written outside the cache directory."""
        journal = Journal(self.layout.state, read_only=True)
        session = self._open()
        try:
            listings, refused = self.listings(session)
            if not listings:
                return self._printer.all_refused(refused, ())
            self._printer.skipped_datasets(refused)
            plan = self._plan(session, journal, listings)
            disks = disks_of(plan, self.layout, journal.partial_bytes())
        except OSError as error:
            raise unusable(error, self.layout.root) from error
        finally:
            session.close()
            journal.close()
        free, room = disks[0].free_bytes, room_on(disks)
        self._printer.plan(plan, free, room=room, refused=refused, is_all=True)
        return plan_code(plan, refused)

    def fetch(self) -> int:
        """Fetch what is missing."""
        session = self._open()
        try:
            listings, refused = self.listings(session)
            if not listings:
                return self._printer.all_refused(
                    refused, self._retry(Report(refused=refused), session)
                )
            self._printer.skipped_datasets(refused)
            self.layout.prepare(())
            journal = open_journal(self.layout, self._shard)
            try:
                return self._fetch(session, journal, listings, refused)
            finally:
                journal.close()
        except OSError as error:
            raise unusable(error, self.layout.root) from error
        finally:
            session.close()

    def _open(self) -> Session:
        directory = self.layout.root / self.layout.version_name
        self._printer.start(self._config.datasets, str(directory))
        return open_selected_session(
            self._config, pass_refused=True, must_match=not self._args.manifests_only
        )

    def _plan(
        self,
        session: Session,
        journal: Journal,
        listings: Sequence[Listing],
        *,
        samples: bool = False,
    ) -> Plan:
        with Progress(self._printer.progress_stream) as progress:
            outage = Outage(self._config.retry_for_s)
            outage.on_wait = partial(progress.outage, outage)
            planner = Planner(
                session,
                self.layout,
                journal,
                skip_checks=self._config.skip_s3_checks,
                bypass=self._config.bypass_existing,
                compare_bytes=True,
                skip_unreadable=True,
                on_facts=progress.facts,
                outage=outage,
                shard=self._shard,
                samples=samples,
            )
            url = metadata_url(self._config.version) if self._config.metadata else ""
            plan = planner.plan([] if self._args.manifests_only else listings, metadata_url=url)
        if planner.renamed != self._renamed:
            self._renamed = planner.renamed
            path, name = next(iter(planner.renamed.items()))
            self._printer.say(
                f"On this disk {len(planner.renamed)} names are the same as those of other files;"
                f" {path} is stored as {name}, and so on."
            )
        return plan

    def listings(self, session: Session) -> tuple[list[Listing], dict[str, Ego4DError]]:
        """Return the listings, and the errors of the datasets that cannot be listed.

        Raises the errors that concern all datasets: a rejected key, or a wrong option. Of a shard
        it raises all: without a dataset, the others would be split in another way.
        """
        names = self._config.datasets
        refused = session.catalog.load(names)
        for error in refused.values():
            if self._shard or isinstance(error, (CredentialsRejected, ConfigError)):
                raise error
        listings = [session.catalog.listing(name) for name in names if name not in refused]
        rows = sum(len(listing.manifest.entries) for listing in listings)
        if (
            rows
            and not self._args.manifests_only
            and not any(listing.entries for listing in listings)
        ):
            named = " ".join(listing.dataset for listing in listings)
            raise ConfigError(
                f"0 of {rows} rows of {named} match this selection",
                hint="check --benchmarks, --universities, --video_uids and the other filters",
            )
        return listings, refused

    def _fetch(
        self,
        session: Session,
        journal: Journal,
        listings: Sequence[Listing],
        refused: Mapping[str, Ego4DError],
    ) -> int:
        with suppress(OSError):  # the one in the root is found without it, and fails alone
            ReleaseFiles(self.layout).offer_metadata()
        plan, disks = self._plan_to_fetch(session, journal, listings)
        self._printer.plan(plan, disks[0].free_bytes, room=room_on(disks), is_all=False)
        full = without_space(disks)
        self._printer.skipped_datasets({" ".join(disk.datasets): disk.error() for disk in full})
        if (
            plan.count(*TO_FETCH)
            and not self._config.assume_yes
            and not self._printer.confirms(plan)
        ):
            return ExitCode.OK
        unwritable = {name: error for disk in full for name, error in disk.errors().items()}
        return self._write(session, journal, listings, plan, unwritable, refused)

    def _plan_to_fetch(
        self, session: Session, journal: Journal, listings: Sequence[Listing]
    ) -> tuple[Plan, list[DiskSpace]]:
        """Return the plan, and the disks that it writes to.

        Sizes of small files may be left to the run, unless a question, the parts of a shard or of
        a cluster, or the room on a disk depend on them.
        """
        samples = self._config.assume_yes and not (self._shard or self._cluster)
        plan = self._plan(session, journal, listings, samples=samples)
        disks = disks_of(plan, self.layout, journal.partial_bytes())
        if any(disk.may_lack_space for disk in disks):
            plan = self._plan(session, journal, listings)
            disks = disks_of(plan, self.layout, journal.partial_bytes())
        return plan, disks

    def _write(
        self,
        session: Session,
        journal: Journal,
        listings: Sequence[Listing],
        plan: Plan,
        unwritable: Mapping[str, OSError],
        refused: Mapping[str, Ego4DError],
    ) -> int:
        """Write the files of the plan, except those of `unwritable` datasets, and report."""
        self.layout.prepare(())
        override = self._config.manifest_override_path
        destination = Destination(self.layout, writes_manifests=override is None)
        wanted = {d.dataset for d in plan.datasets if d.dataset and d.count(*TO_FETCH)}
        with journal.exclusive():
            begin_part(journal, plan)
            unwritable = {**unwritable, **destination.prepare(listings, wanted)}
            is_part = self._config.is_filtered or override or plan.share
            destination.remember(plan, is_all=not is_part)
        fetcher_of: partial[DaskFetcher] | partial[Fetcher]
        fetcher_of = partial(Fetcher, retry_for_s=self._config.retry_for_s)
        if self._cluster:
            fetcher_of = partial(DaskFetcher, cluster=self._cluster)
        fetcher = fetcher_of(
            session,
            self.layout,
            journal,
            plan,
            jobs=self._args.jobs,
            unwritable={name: unwritable[name] for name in wanted & unwritable.keys()},
        )
        fetcher.report.refused.update(refused)
        self._write_top_manifest(session, fetcher.report)
        for dataset in unwritable.keys() - wanted:
            path = self.layout.relative(dataset, MANIFEST)
            fetcher.report.not_written(path, unwritable[dataset])
        return self._run(session, fetcher, plan)

    def _run(self, session: Session, fetcher: Fetcher | DaskFetcher, plan: Plan) -> int:
        began_s = time.monotonic()
        with Progress(self._printer.progress_stream) as progress:
            ended = fetcher.run(lambda: progress.show(fetcher.report))
        self._printer.missing(plan, fetcher.report)
        code = self._finish(session, fetcher.report, time.monotonic() - began_s)
        if not ended:
            end_process(code)
        return code

    def _write_top_manifest(self, session: Session, report: Report) -> None:
        if not self._config.manifest:
            return
        try:
            path = ReleaseFiles(self.layout).top_manifest(session.catalog.listing(PRIMARY))
        except OSError as error:
            report.not_written(MANIFEST, error)
            return
        self._printer.say(f"Manifest downloaded: {path}")

    def _finish(self, session: Session, report: Report, seconds: float) -> int:
        if self._config.metadata:
            self._show_metadata(report)
        retry = self._retry(report, session)
        return self._printer.report(report, seconds, retry, code=report_code(report))

    def _show_metadata(self, report: Report) -> None:
        try:
            path = ReleaseFiles(self.layout).metadata()
        except OSError as error:  # the downloaded files are complete nevertheless
            report.not_written(METADATA, error)
            return
        if path is not None:
            self._printer.say(f"Ego4D Metadata: {path}")

    def _retry(self, report: Report, session: Session) -> list[str]:
        retry = RetryCommands(parser_of("prefetch"), self._args, self._config, self.layout.state)
        return retry.commands(report, session.catalog.peek)
