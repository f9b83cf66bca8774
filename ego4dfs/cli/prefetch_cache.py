"""`ego4dfs prefetch --to cache`: plan, confirmation, fetch into the cache, and report."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from ego4dfs.cache import PIN_SHARE, prepare_directory
from ego4dfs.catalog import Listing, metadata_url
from ego4dfs.cli.output import ExitCode, end_process
from ego4dfs.cli.prefetch_printer import PrefetchPrinter, plan_code, report_code
from ego4dfs.cli.progress import Progress
from ego4dfs.cli.retry_commands import RetryCommands
from ego4dfs.cli.windows_file import check_windows_file
from ego4dfs.cluster import DaskCluster, NodeFetcher, Work, blocks_of_nodes
from ego4dfs.config import Config
from ego4dfs.copies import State
from ego4dfs.errors import ConfigError, Ego4DError
from ego4dfs.prefetch import COMPLETE, TO_FETCH, CacheWarmer, Item, Plan, Report, Shard
from ego4dfs.prefetch.cache_room import bytes_to_fetch, check_disk
from ego4dfs.session import Session
from ego4dfs.text import human_size
from ego4dfs.vfs import open_selected_session

_CACHE_ONLY = {
    "pin": "blocks in the cache can be pinned",
    "indexes": "the cache can have parts of files",
    "windows": "the cache can have parts of files",
}

Listings = Callable[[Session], tuple[list[Listing], dict[str, Ego4DError]]]


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of `prefetch` that only the cache has."""
    group.add_argument(
        "--pin",
        action="store_true",
        help="with --to cache: never evict these blocks, until `ego4dfs cache unpin`",
    )
    group.add_argument(
        "--indexes",
        action="store_true",
        help="with --to cache: fetch only the indexes of the videos, about 0.1 %% of them",
    )
    group.add_argument(
        "--windows",
        metavar="FILE",
        help="with --to cache: fetch only what the windows in FILE need. It is an annotation, or a"
        " CSV or JSON Lines with video_uid, start_s and end_s: a local file, or a path in the tree"
        " such as annotations/nlq_train.json",
    )


def check_flags(args: argparse.Namespace) -> None:
    """Raise ConfigError for flags that are only for copies, or only for the cache."""
    check_windows_file(args.windows)
    if args.to != "cache":
        for name, what in _CACHE_ONLY.items():
            if getattr(args, name):
                raise ConfigError(f"--{name}: only {what}", hint="add --to cache")
        return
    if args.windows and args.indexes:
        hint = "--windows alone fetches the indexes of its videos too"
        raise ConfigError("--indexes: not allowed with --windows", hint=hint)
    if args.windows or args.indexes:
        _check_parts(args)
    for name, flag in (("output_directory", "-o"), ("skip_s3_checks", "--skip-s3-checks")):
        if vars(args).get(name):
            hint = "the cache is in --cache-dir, and its blocks need the sizes of their objects"
            raise ConfigError(f"{flag}: not allowed with --to cache", hint=hint)


def _check_parts(args: argparse.Namespace) -> None:
    """Raise ConfigError for flags of other files than videos, which would be ignored."""
    if args.manifests_only:
        raise ConfigError("--manifests-only: not allowed with --windows and --indexes")
    if vars(args).get("metadata"):
        hint = "fetch ego4d.json with a command of its own: add --manifests-only instead of these"
        raise ConfigError("--metadata: not allowed with --windows and --indexes", hint=hint)


class ToCache:
    """One run of `prefetch --to cache` that fetches whole files."""

    def __init__(
        self,
        config: Config,
        args: argparse.Namespace,
        printer: PrefetchPrinter,
        listings: Listings,
        shard: Shard | None,
        cluster: DaskCluster | None,
    ) -> None:
        """Fetch what `listings` returns for a session, or its `shard`.

        With a `cluster` it is fetched into the caches of its nodes, not into that of this command.
        """
        self._shard = shard
        self._cluster = cluster
        self._config = config
        self._args = args
        self._printer = printer
        self._listings = listings
        self._pin = args.pin

    def run(self, retry: Callable[[Path], RetryCommands]) -> int:
        """Plan, confirm, fetch and report; `retry` gets the directory for files of uids."""
        inner = prepare_directory(self._config.cache_dir)
        self._printer.start(self._config.datasets, f"the cache in {self._config.cache_dir}")
        session = open_selected_session(self._config, pass_refused=True)
        try:
            return self._run(session, retry(inner))
        finally:
            session.close()

    def _run(self, session: Session, retry: RetryCommands) -> int:
        listings, refused = self._listings(session)
        if not listings:
            again = retry.commands(Report(refused=refused), session.catalog.peek)
            return self._printer.all_refused(refused, again)
        self._printer.skipped_datasets(refused)
        return self._fetch(session, listings, refused, retry)

    def _fetch(
        self,
        session: Session,
        listings: list[Listing],
        refused: dict[str, Ego4DError],
        retry: RetryCommands,
    ) -> int:
        """Plan, confirm and fetch the files of some datasets, without the `refused` ones."""
        warmer = self._warmer(session)
        plan = self._plan(warmer, listings)
        dry = self._args.dry_run
        self._printer.plan(
            plan, self._room_bytes(session), room=self._room(session), refused=refused, is_all=dry
        )
        self._check_room(session, warmer, plan)
        if dry:
            return plan_code(plan, refused)
        if not self._is_confirmed(plan):
            return ExitCode.OK
        warmer.report.refused.update(refused)
        return self._run_warmer(session, warmer, plan, retry)

    def _check_room(self, session: Session, warmer: CacheWarmer, plan: Plan) -> None:
        """Raise CacheError if the cache has no room; nodes check their own caches."""
        if self._cluster is None:
            warmer.check_room(plan, pin=self._pin)
            check_disk(session, bytes_to_fetch(plan), self._config.cache_dir)

    def _is_confirmed(self, plan: Plan) -> bool:
        """Ask, unless there is nothing to fetch, or -y was given."""
        is_asked = plan.count(*TO_FETCH) and not self._config.assume_yes
        return not is_asked or self._printer.confirms(plan)

    def _warmer(self, session: Session) -> CacheWarmer:
        return CacheWarmer(
            session,
            retry_for_s=self._config.retry_for_s,
            compares_etags=self._config.verify == "auto",
        )

    def _plan(self, warmer: CacheWarmer, listings: list[Listing]) -> Plan:
        url = metadata_url(self._config.version) if self._config.metadata else ""
        wanted = [] if self._args.manifests_only else listings
        with self._planning(warmer) as progress:
            return warmer.plan(
                wanted,
                metadata_url=url,
                on_facts=progress.facts,
                facts_only=self._cluster is not None,
                shard=self._shard,
            )

    @contextmanager
    def _planning(self, warmer: CacheWarmer) -> Iterator[Progress]:
        """Show progress and outages while a plan is made."""
        outage = warmer.report.outage
        with Progress(self._printer.progress_stream) as progress:
            outage.on_wait = partial(progress.outage, outage)
            yield progress
        outage.on_wait = lambda: None

    def _room_bytes(self, session: Session) -> int:
        cache = session.cache.admin
        return cache.bytes_left_to_pin if self._pin else int(cache.max_bytes * PIN_SHARE)

    def _room(self, session: Session) -> str:
        if self._cluster is not None:
            return "each node fetches what its cache lacks"
        return f"the cache has room for {human_size(self._room_bytes(session))}"

    def _run_warmer(
        self,
        session: Session,
        warmer: CacheWarmer,
        plan: Plan,
        retry: RetryCommands,
        earlier: Report | None = None,
        **more: object,
    ) -> int:
        """Fetch a plan; `earlier` is the report of its preparation."""
        began_s = time.monotonic()
        report = warmer.report
        with Progress(self._printer.progress_stream) as progress:
            if self._cluster is None:
                ended = warmer.run(plan, lambda: progress.show(report), pin=self._pin)
            else:
                fetcher = self._on_nodes(
                    blocks_of_nodes(self._config, pin=self._pin), plan, self._cluster
                )
                fetcher.report.refused.update(report.refused)
                report = fetcher.report
                ended = fetcher.run(lambda: progress.show(report))
        seconds = time.monotonic() - began_s
        if earlier is not None:
            report.include(earlier)
        return self._end(session, report, seconds, retry, ended=ended, **more)

    def _on_nodes(self, work: Work, plan: Plan, cluster: DaskCluster) -> NodeFetcher:
        """Return what does this work on the nodes of the cluster, whatever this cache has."""
        found = {d.dataset for d in plan.datasets if d.dataset}
        names = tuple(name for name in self._config.datasets if name in found)
        cluster = replace(cluster, config=replace(self._config, datasets=names))
        return NodeFetcher(as_missing(plan), work, cluster=cluster, jobs=self._args.jobs)

    def _end(
        self,
        session: Session,
        report: Report,
        seconds: float,
        retry: RetryCommands,
        *,
        ended: bool,
        **more: object,
    ) -> int:
        """Print the report, with `more` in its JSON; exit if not all threads have `ended`."""
        if self._pin and report.stopped_by is None:
            self._printer.say("Pinned: it stays in the cache until `ego4dfs cache unpin`.")
        again = retry.commands(report, session.catalog.peek)
        code = self._printer.report(report, seconds, again, code=self._code(report), more=more)
        if not ended:
            end_process(code)
        return code

    def _code(self, report: Report) -> int:
        """Return the exit code of a run."""
        return report_code(report)


def as_missing(plan: Plan) -> Plan:
    """Return a plan whose complete files are to be fetched: other caches may lack them."""
    return replace(
        plan,
        datasets=[replace(d, items=[_wanted(item) for item in d.items]) for d in plan.datasets],
        partial_bytes=0,
    )


def _wanted(item: Item) -> Item:
    return replace(item, state=State.FETCH) if item.state in COMPLETE else item
