"""`ego4dfs mirror`: the selected files are written to a near tier ahead of their first read."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from ego4dfs.catalog import Listing, metadata_url
from ego4dfs.cli.options import (
    add_cache,
    add_json,
    add_near_connection,
    add_retry_for,
    add_selection,
    add_store,
    config_from,
)
from ego4dfs.cli.output import ExitCode, end_process
from ego4dfs.cli.parser import Parser, command_line
from ego4dfs.cli.prefetch_printer import PrefetchPrinter, plan_code, report_code
from ego4dfs.cli.progress import Progress
from ego4dfs.cli.shard_option import add_shard, shard_of
from ego4dfs.cli.signals import terminated_as_interrupted
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError, CredentialsRejected, Ego4DError
from ego4dfs.near import NearStore
from ego4dfs.near.filler import PATIENT
from ego4dfs.prefetch import CacheWarmer, Mirror, Plan, Report, Shard, Status
from ego4dfs.session import Session, open_near_tier
from ego4dfs.vfs import open_selected_session

_ROOM = "a near tier has no limit"


def add_arguments(parser: Parser) -> None:
    """Add the options of `mirror`."""
    add_selection(parser, confirms=True, default="annotations")
    group = parser.add_argument_group("near tier", argument_default=argparse.SUPPRESS)
    group.add_argument(
        "--to",
        dest="near",
        metavar="URL",
        help="s3://bucket/prefix of the near tier, as --near of a mount",
    )
    add_near_connection(group)
    more = parser.add_argument_group("fetching")
    more.add_argument(
        "--dry-run", action="store_true", help="show what is selected, without fetching it"
    )
    add_shard(more, "fetch")
    add_retry_for(more)
    add_json(more, "print the plan or the report as JSON")
    more.add_argument("--quiet", action="store_true", help="print errors only")
    add_store(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, ask for confirmation, fetch, write and report."""
    config, shard = config_from(args), shard_of(args.shard, os.environ)
    if not config.near:
        hint = "name its bucket with --to s3://bucket/prefix"
        raise ConfigError("no near tier was given", hint=hint)
    if shard is not None:
        config = replace(config, metadata=config.metadata and not shard.index)
    if not config.datasets:
        config = replace(config, datasets=("annotations",))
    printer = PrefetchPrinter(as_json=args.json, quiet=args.quiet, out=Path(config.near))
    with terminated_as_interrupted():
        return _Command(config, args, printer, shard).run()


class _Command:
    """One run of the command."""

    def __init__(
        self,
        config: Config,
        args: argparse.Namespace,
        printer: PrefetchPrinter,
        shard: Shard | None,
    ) -> None:
        self._config = config
        self._args = args
        self._printer = printer
        self._shard = shard

    def run(self) -> int:
        """Do everything. Raises Ego4DError."""
        self._printer.start(self._config.datasets, self._config.near)
        session = open_selected_session(replace(self._config, near=""), pass_refused=True)
        try:
            listings, refused = self._listings(session)
            if not listings:
                return self._printer.all_refused(refused, ())
            self._printer.skipped_datasets(refused)
            plan = self._plan(session, listings)
            if self._args.dry_run:
                self._printer.plan(plan, None, room=_ROOM, is_all=True, refused=refused)
                return plan_code(plan, refused)
            self._printer.plan(plan, None, room=_ROOM, is_all=False)
            if not self._config.assume_yes and not self._printer.confirms(plan):
                return ExitCode.OK
            return self._write(session, plan, listings, refused)
        finally:
            session.close()

    def _listings(self, session: Session) -> tuple[list[Listing], dict[str, Ego4DError]]:
        names = self._config.datasets
        refused = session.catalog.load(names)
        for error in refused.values():
            if self._shard or isinstance(error, (CredentialsRejected, ConfigError)):
                raise error
        return [session.catalog.listing(name) for name in names if name not in refused], refused

    def _plan(self, session: Session, listings: list[Listing]) -> Plan:
        warmer = CacheWarmer(session, retry_for_s=self._config.retry_for_s)
        url = metadata_url(self._config.version) if self._config.metadata else ""
        with Progress(self._printer.progress_stream) as progress:
            outage = warmer.report.outage
            outage.on_wait = partial(progress.outage, outage)
            return warmer.plan(
                listings,
                metadata_url=url,
                on_facts=progress.facts,
                facts_only=True,
                shard=self._shard,
            )

    def _write(
        self,
        session: Session,
        plan: Plan,
        listings: list[Listing],
        refused: dict[str, Ego4DError],
    ) -> int:
        tier = open_near_tier(self._config, session.metrics, PATIENT)
        mirror = Mirror(
            session, NearStore(session.store, tier, fills=True), self._config.retry_for_s
        )
        began_s = time.monotonic()
        mirror.manifests(self._config.version, [listing.dataset for listing in listings])
        mirror.report.refused.update(refused)
        with Progress(self._printer.progress_stream) as progress:
            ended = mirror.run(plan, lambda: progress.show(mirror.report))
        tier.bucket.close()
        code = self._report(mirror.report, time.monotonic() - began_s)
        if not ended:
            end_process(code)
        return code

    def _report(self, report: Report, seconds: float) -> int:
        from ego4dfs.cli import parser_of  # noqa: PLC0415 - it imports this module

        code = report_code(report)
        if report.files == report.counts[Status.SKIPPED]:
            self._printer.say("Nothing was missing there.")
        again = []
        if report.problems or report.refused or report.stopped_by is not None:
            again = [command_line(parser_of("mirror"), self._args)]
        more = {"output_directory": self._config.near}
        return self._printer.report(report, seconds, again, code=code, more=more)
