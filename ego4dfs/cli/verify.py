"""`ego4dfs verify`: check the copies on disk, and repair or remove wrong ones."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from ego4dfs.catalog import Listing, metadata_url
from ego4dfs.cli.copies_directory import copies_directory
from ego4dfs.cli.dask_option import add_dask, cluster_of
from ego4dfs.cli.options import (
    add_cache,
    add_json,
    add_retry_for,
    add_selection,
    add_store,
    config_from,
)
from ego4dfs.cli.output import ExitCode, end_process, print_error, say
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.prefetch_printer import PrefetchPrinter
from ego4dfs.cli.progress import Progress
from ego4dfs.cli.shard_option import add_shard, begin_part, open_journal, shard_of
from ego4dfs.cli.streams import output_is_optional
from ego4dfs.cli.verify_dask import checked_plan, comparing
from ego4dfs.cli.verify_datasets import datasets_to_check
from ego4dfs.cli.verify_offline import selected_names
from ego4dfs.cli.verify_release_files import restore, root_findings
from ego4dfs.cli.verify_report import broken, report, say_unknown
from ego4dfs.cluster import DaskCluster
from ego4dfs.config import Config
from ego4dfs.copies import Journal, Layout, unusable
from ego4dfs.datasets import METADATA
from ego4dfs.errors import (
    ConfigError,
    CredentialsRejected,
    Ego4DError,
    OutputError,
    StoreUnavailable,
)
from ego4dfs.prefetch import Expected, Fetcher, Plan, Planner, Shard, Share, disks_of, room_on
from ego4dfs.session import Session
from ego4dfs.verify import (
    Finding,
    check_journal,
    check_plan,
    prune,
    renewed,
    to_repair,
)
from ego4dfs.vfs import open_selected_session


def add_arguments(parser: Parser) -> None:
    """Add the options of `verify`."""
    add_json(parser)
    parser.add_argument(
        "--offline",
        action="store_true",
        help="check against the journal of prefetch and the manifests on disk, without network",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="fetch damaged and missing files again, after a confirmation",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove unchanged files of another release that this release does not list",
    )
    add_shard(parser, "check")
    add_dask(parser, "read the files of one shared directory")
    add_retry_for(parser)
    add_selection(
        parser,
        confirms=True,
        default="all below -o",
        output="directory of the downloaded files",
    )
    add_store(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Check all copies, and report those that are damaged, missing or extra."""
    if args.repair or args.prune:
        output_is_optional()
    config = config_from(args)
    shard, cluster = _shard(args), cluster_of(args, config)
    out = copies_directory(config, example="ego4dfs verify -o ~/ego4d_data")
    layout = Layout(out, config.version)
    unreadable: Mapping[str, OSError] = {}
    if not config.datasets:
        datasets, unreadable = datasets_to_check(layout)
        config = replace(config, datasets=datasets)
    if unreadable and (shard or not config.datasets):  # other machines would divide otherwise
        path, error = next(iter(unreadable.items()))
        raise unusable(error, layout.dataset(path))
    if not config.datasets:
        hint = "check -o and --version, or name --datasets"
        raise ConfigError(f"{layout.dataset('')}: there are no copies", hint=hint)
    try:
        if args.offline:
            _check_offline(args)
            findings, share = _offline(layout, config, shard, cluster)
            code = report(findings, {}, share, as_json=args.json)
        else:
            code = _online(layout, config, args, shard, cluster)
    except OSError as error:
        raise unusable(error, layout.root) from error
    return ExitCode.PARTIAL if unreadable and code == ExitCode.OK else code


def _shard(args: argparse.Namespace) -> Shard | None:
    shard = shard_of(args.shard, os.environ)
    if shard is not None and args.prune:
        hint = "verify the parts first, then --prune without --shard"
        raise ConfigError("--prune: not allowed with --shard", hint=hint)
    return shard


def _check_offline(args: argparse.Namespace) -> None:
    for name in ("repair", "prune"):
        if getattr(args, name):
            raise ConfigError(f"--{name}: not allowed with --offline", hint="leave one of them out")


def _offline(
    layout: Layout, config: Config, shard: Shard | None, cluster: DaskCluster | None
) -> tuple[list[Finding], Share | None]:
    journal = Journal(layout.state, read_only=True)
    try:
        names = selected_names(layout, config)
        with comparing(cluster, layout) as compare:
            datasets = ("", *config.datasets) if config.metadata else config.datasets
            findings, share = check_journal(layout, journal, datasets, names, shard, compare)
            return [*findings, *root_findings(layout, findings)], share
    finally:
        journal.close()


def _online(
    layout: Layout,
    config: Config,
    args: argparse.Namespace,
    shard: Shard | None,
    cluster: DaskCluster | None,
) -> int:
    repair, prunes = args.repair, args.prune
    if prunes and config.manifest_override_path is not None:
        raise ConfigError(
            "--prune: not allowed with --manifest-override-path",
            hint="only the manifest of the release shows which files belong to another one",
        )
    session = open_selected_session(config, pass_refused="datasets" not in args)
    try:
        if repair or prunes:
            layout.prepare(config.datasets)
        journal = (
            open_journal(layout, shard) if repair or prunes else _read_only_journal(layout, shard)
        )
        try:
            return _check(layout, config, session, journal, args, shard, cluster)
        finally:
            journal.close()
    finally:
        session.close()


def _read_only_journal(layout: Layout, shard: Shard | None) -> Journal:
    """Open the journal for reading; report one that cannot be read, and use an empty one.

    Raises OutputError for a shard: without the records, the other shards would divide other files.
    """
    try:
        return Journal(layout.state, read_only=True)
    except OutputError as error:
        if shard is not None:
            raise
        print_error(error)
        return Journal.empty()


def _check(
    layout: Layout,
    config: Config,
    session: Session,
    journal: Journal,
    args: argparse.Namespace,
    shard: Shard | None,
    cluster: DaskCluster | None,
) -> int:
    """Check, repair and remove as `args` say, and report the final state."""
    expected = _expected(layout, config, journal, shard)
    config, refused = _without_refused(session, config, args, shard)
    listings, plan = _plan(layout, config, session, journal, args, expected, shard)
    _begin_part(journal, plan)
    findings = checked_plan(cluster, layout, plan, listings, journal)
    findings += root_findings(layout, findings)
    repaired, ended = 0, True
    stopped_by: BaseException | None = None
    if args.repair:
        before, damaged = broken(findings), to_repair(plan, findings)
        if _is_confirmed(layout, config, journal, damaged, as_json=args.json):
            ended, stopped_by = _repair(layout, config, session, journal, damaged)
            findings = _checked_again(layout, config, session, journal, damaged, findings)
            restore(layout, findings, () if config.manifest_override_path else listings)
            findings += root_findings(layout, findings)
        repaired = before - broken(findings)
    removed = prune(layout, journal, findings) if args.prune else []
    findings = [finding for finding in findings if finding not in removed]
    counts = {"repaired": repaired, "removed": len(removed)}
    say_unknown(expected.unknown)
    code = report(findings, counts, plan.share, as_json=args.json)
    if (repaired and code == ExitCode.FAILURE) or (refused and code == ExitCode.OK):
        code = ExitCode.PARTIAL
    if stopped_by is not None and ended:
        raise stopped_by
    if not ended:
        if stopped_by is not None:
            say(f"ego4dfs: {stopped_by or 'interrupted'}", file=sys.stderr)
        end_process(ExitCode.FAILURE if stopped_by is not None else code)
    return code


def _checked_again(
    layout: Layout,
    config: Config,
    session: Session,
    journal: Journal,
    repaired: Plan,
    findings: list[Finding],
) -> list[Finding]:
    """Return the findings after a repair, without that of the root.

    Only the repaired files are checked again, against the fetched version: objects may have changed
    since.
    """
    current = renewed(repaired, session.facts.peek)
    again = check_plan(layout, current, (), journal, config.version)
    found = {finding.path: finding for finding in again}
    return [found.get(one.path, one) for one in findings if one.path != METADATA]


def _expected(layout: Layout, config: Config, journal: Journal, shard: Shard | None) -> Expected:
    """Return which files are expected. Raises OutputError if a shard cannot know it."""
    expected = Expected(layout, journal, config.version)
    if shard is not None and not expected.has_selections:
        raise OutputError(
            f"{layout.state}: what was selected cannot be read, and shards divide it",
            hint="verify without --shard, or select it again with prefetch",
        )
    return expected


def _begin_part(journal: Journal, plan: Plan) -> None:
    with journal.exclusive():
        begin_part(journal, plan)


def _without_refused(
    session: Session, config: Config, args: argparse.Namespace, shard: Shard | None
) -> tuple[Config, Mapping[str, Ego4DError]]:
    """Return the Config without the datasets that cannot be listed, and their errors; report them.

    Raises the errors that concern all datasets, and the first one if the datasets were named, none
    is left, or other machines would divide the files of all of them.
    """
    refused = session.catalog.load(config.datasets)
    must_raise = bool(shard) or "datasets" in args or len(refused) == len(config.datasets)
    for error in refused.values():
        if must_raise or isinstance(error, (CredentialsRejected, StoreUnavailable)):
            raise error
    for name, error in refused.items():
        print_error(error)
        say(f"ego4dfs: {name} was not checked", file=sys.stderr)
    datasets = tuple(name for name in config.datasets if name not in refused)
    # A directory that is not a dataset of Ego4D belongs to the user: a warning is enough.
    refused = {name: e for name, e in refused.items() if not isinstance(e, ConfigError)}
    return replace(config, datasets=datasets), refused


def _is_confirmed(
    layout: Layout, config: Config, journal: Journal, plan: Plan, *, as_json: bool
) -> bool:
    """Print what a repair would fetch, and ask for confirmation unless with -y or for nothing."""
    if not any(plan.items):
        return True
    printer = PrefetchPrinter(as_json=as_json, quiet=False, out=layout.root)
    disks = disks_of(plan, layout, journal.partial_bytes())
    printer.plan(plan, disks[0].free_bytes, room=room_on(disks), is_all=False)
    return config.assume_yes or printer.confirms(plan)


def _plan(
    layout: Layout,
    config: Config,
    session: Session,
    journal: Journal,
    args: argparse.Namespace,
    expected: Expected,
    shard: Shard | None,
) -> tuple[list[Listing], Plan]:
    """Return the plan, and the listings whose directories may have extra files.

    The first part of several finds these files, and checks ego4d.json.
    """
    planner = Planner(session, layout, journal, shard=shard)
    all_listings = [session.catalog.listing(name) for name in config.datasets]
    is_first = shard is None or shard.index == 0
    listings = all_listings if is_first else []
    wants_metadata = config.metadata and ("metadata" in args or expected.has_metadata())
    has_metadata = is_first and wants_metadata
    url = metadata_url(config.version) if has_metadata else ""
    if config.is_filtered or config.manifest_override_path is not None:
        return listings, planner.plan(all_listings, metadata_url=url)
    is_named = "datasets" in args
    wanted = [expected.of(listing, is_named=is_named) for listing in all_listings]
    return listings, planner.plan(wanted, metadata_url=url)


def _repair(
    layout: Layout, config: Config, session: Session, journal: Journal, plan: Plan
) -> tuple[bool, BaseException | None]:
    """Fetch; return whether all threads have ended, and the error that stopped the run, if any."""
    if not any(plan.items):
        return True, None
    fetcher = Fetcher(session, layout, journal, plan, retry_for_s=config.retry_for_s)
    with Progress(sys.stderr) as progress:
        ended = fetcher.run(lambda: progress.show(fetcher.report))
    for problem in fetcher.report.problems:
        say(f"ego4dfs: {problem.path}: {problem.reason}", file=sys.stderr)
    return ended, fetcher.report.stopped_by
