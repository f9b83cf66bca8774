"""`ego4dfs verify`: are the copies on disk what they should be, and mend those that are not."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ego4dfs.catalog import metadata_url
from ego4dfs.cli.args import Parser, add_cache, add_selection, add_store, config_from
from ego4dfs.cli.output import ExitCode, print_json, table
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError, MountError
from ego4dfs.mount import mounts
from ego4dfs.prefetch import Fetcher, Journal, Layout, Means, Plan, Planner, unusable
from ego4dfs.verify import (
    BROKEN,
    Finding,
    Verdict,
    check_journal,
    check_plan,
    datasets_below,
    to_repair,
)
from ego4dfs.vfs import VFS, open_vfs

_FILTERS = (
    *("benchmarks", "universities", "video_uids", "annotations", "clip_uids", "splits"),
    *("uids_from", "include", "exclude"),
)
_FINE = (Verdict.RIGHT, Verdict.SIZE_ONLY)


def add_arguments(parser: Parser) -> None:
    """Add the flags of `verify`."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument(
        "--offline", action="store_true", help="go by prefetch's journal alone, and ask nobody"
    )
    parser.add_argument(
        "--repair", action="store_true", help="fetch what is damaged or missing anew"
    )
    add_selection(parser)
    add_store(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Look at all copies, and say which are not right."""
    config = config_from(args)
    if config.output_directory is None:
        hint = "say where the copies are: ego4dfs verify -o ~/ego4d_data"
        raise ConfigError("no output directory was given", hint=hint)
    layout = Layout(_unmounted(config.output_directory), config.version)
    if not config.datasets:
        config = replace(config, datasets=datasets_below(layout))
    if not config.datasets:
        hint = "check -o and --version, or name --datasets"
        raise ConfigError(f"{layout.dataset('')}: there are no copies", hint=hint)
    as_json, repair = getattr(args, "json", False), getattr(args, "repair", False)
    try:
        if getattr(args, "offline", False):
            _check_offline(config, repair=repair)
            return _say(_offline(layout, config), as_json=as_json)
        return _online(layout, config, repair=repair, as_json=as_json)
    except OSError as error:
        raise unusable(error, layout.root) from error


def _unmounted(directory: Path) -> Path:
    """Return the directory, unless a mount would answer in place of the disk."""
    out = Path(os.path.realpath(directory))
    for mount in mounts():
        at = mount.mountpoint
        if mount.is_ours and (at == out or at in out.parents or out in at.parents):
            raise MountError(
                f"{out}: an ego4dfs is mounted at {at}, and hides the copies",
                hint=f"`ego4dfs unmount {at}` first",
            )
    return out


def _check_offline(config: Config, *, repair: bool) -> None:
    if repair:
        raise ConfigError("--repair: not allowed with --offline", hint="leave one of them out")
    for name in _FILTERS:
        if getattr(config, name):
            raise ConfigError(
                f"{name}: not allowed with --offline",
                hint="the journal knows datasets and files, no filters: choose with --datasets",
            )


def _offline(layout: Layout, config: Config) -> list[Finding]:
    journal = Journal(layout.state, look_only=True)
    try:
        return check_journal(layout, journal, config.datasets)
    finally:
        journal.close()


def _online(layout: Layout, config: Config, *, repair: bool, as_json: bool) -> int:
    vfs = open_vfs(config)
    try:
        if repair:
            layout.prepare(config.datasets)
        journal = Journal(layout.state, look_only=not repair)
        try:
            plan = _plan(layout, config, vfs, journal)
            findings = check_plan(layout, plan)
            ended = True
            if repair and _broken(findings):
                ended = _repair(layout, config, vfs, journal, to_repair(plan, findings))
                again = {finding.path: finding for finding in check_plan(layout, plan)}
                mended = _broken(findings) - _broken(list(again.values()))
                code = _say(list(again.values()), as_json=as_json, mended=mended)
                if mended and code == ExitCode.FAILURE:
                    code = ExitCode.PARTIAL
            else:
                code = _say(findings, as_json=as_json)
        finally:
            journal.close()
    finally:
        vfs.close()
    if not ended:
        # Threads that wait for an answer cannot be stopped, and must not outlive Python.
        sys.stdout.flush()
        os._exit(code)
    return code


def _plan(layout: Layout, config: Config, vfs: VFS, journal: Journal) -> Plan:
    for error in vfs.catalog.load(config.datasets).values():
        raise error
    planner = Planner(layout, vfs.facts, journal, vfs.store.source)
    url = metadata_url(config.version) if config.metadata else ""
    listings = [vfs.catalog.listing(name) for name in config.datasets]
    return planner.plan(listings, metadata_url=url)


def _repair(layout: Layout, config: Config, vfs: VFS, journal: Journal, plan: Plan) -> bool:
    means = Means(vfs.store, vfs.facts, vfs.cache, journal, layout, config.version)
    fetcher = Fetcher(means, plan)
    ended = fetcher.run()
    for problem in fetcher.report.problems:
        print(f"ego4dfs: {problem.path}: {problem.reason}", file=sys.stderr)
    if fetcher.report.stopped_by is not None:
        raise fetcher.report.stopped_by
    return ended


def _broken(findings: Sequence[Finding]) -> int:
    return sum(finding.verdict in BROKEN for finding in findings)


def _say(findings: Sequence[Finding], *, as_json: bool, mended: int = 0) -> int:
    """Print what is not right and the counts, and return the exit code."""
    counts = Counter(finding.verdict for finding in findings)
    told = [finding for finding in findings if finding.verdict not in _FINE]
    if as_json:
        print_json(
            {
                "files": {verdict.value: counts[verdict] for verdict in Verdict},
                "repaired": mended,
                "problems": [
                    {"path": f.path, "verdict": f.verdict.value, "reason": f.reason} for f in told
                ],
            }
        )
    else:
        if told:
            table([(f.verdict.value, f.path, f.reason) for f in told], ("state", "file", "why"))
        parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
        line = ", ".join(parts) or "no files"
        print(line + (f"; {mended} repaired" if mended else ""))
    return ExitCode.FAILURE if _broken(findings) else ExitCode.OK
