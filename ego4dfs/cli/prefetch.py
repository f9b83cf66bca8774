"""`ego4dfs prefetch`: full copies on disk, as the official tool makes them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from ego4dfs.catalog import Listing, metadata_url
from ego4dfs.cli import prefetch_output as said
from ego4dfs.cli.args import Parser, add_cache, add_selection, add_store, command_line, config_from
from ego4dfs.cli.output import ExitCode
from ego4dfs.cli.progress import Progress
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError, Ego4DError, MountError, OutputError
from ego4dfs.mount import mounts
from ego4dfs.prefetch import (
    JOBS,
    TO_GET,
    Fetcher,
    Journal,
    Layout,
    Means,
    Plan,
    Planner,
    ReleaseFiles,
    Report,
    unusable,
)
from ego4dfs.vfs import VFS, open_vfs

_DEFAULT_DATASETS = ("annotations",)
_TOP_MANIFEST = "full_scale"


def add_arguments(parser: Parser) -> None:
    """Add the flags of `prefetch`."""
    add_selection(parser, copies=True)
    group = parser.add_argument_group("fetching")
    group.add_argument(
        "--dry-run", action="store_true", help="show what would be fetched, and fetch nothing"
    )
    group.add_argument(
        "--manifests-only", action="store_true", help="fetch manifests and ego4d.json only"
    )
    group.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        help=f"ranges of large files fetched at once, small files four times as many ({JOBS})",
    )
    group.add_argument("--json", action="store_true", help="print the plan or the report as JSON")
    group.add_argument("--quiet", action="store_true", help="print nothing but what went wrong")
    add_store(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, ask, fetch and report."""
    config = config_from(args)
    out = _checked_output(config)
    jobs = getattr(args, "jobs", JOBS)
    if jobs not in range(1, 17):
        raise ConfigError(f"--jobs {jobs}: a number from 1 to 16 is wanted")
    voice = said.Voice(
        as_json=getattr(args, "json", False), quiet=getattr(args, "quiet", False), out=out
    )
    if not config.datasets:
        config = replace(config, datasets=_DEFAULT_DATASETS)
        voice.say("No --datasets were given: annotations, as in the official tool.")
    command = _Command(config, Layout(out, config.version), voice, jobs, args)
    if getattr(args, "dry_run", False):
        return command.show_plan()
    with _terminated_as_interrupted():
        return command.fetch()


class _Command:
    """One run of the command."""

    def __init__(
        self, config: Config, layout: Layout, voice: said.Voice, jobs: int, args: argparse.Namespace
    ) -> None:
        self._config = config
        self._layout = layout
        self._voice = voice
        self._jobs = jobs
        self._manifests_only = getattr(args, "manifests_only", False)
        self._args = args

    def show_plan(self) -> int:
        """Print the plan; nothing is written but what the cache directory keeps."""
        journal = Journal(self._layout.state, look_only=True)
        vfs = self._open()
        try:
            plan = self._plan(vfs, journal)
        finally:
            vfs.close()
            journal.close()
        self._voice.plan(plan, self._layout.free_bytes(), is_all=True)
        return said.plan_code(plan)

    def fetch(self) -> int:
        """Fetch what is missing."""
        vfs = self._open()
        try:
            self._layout.prepare(())
            journal = Journal(self._layout.state)
            try:
                return self._fetch(vfs, journal)
            finally:
                journal.close()
        except OSError as error:
            raise unusable(error, self._layout.root) from error
        finally:
            vfs.close()

    def _open(self) -> VFS:
        voice = self._voice
        voice.say(f"Datasets to download: {' '.join(self._config.datasets)}")
        voice.say(f"Download Path: {self._layout.root / self._layout.version_name}")
        voice.say("Checking requested datasets and versions...")
        return open_vfs(self._config)

    def _plan(self, vfs: VFS, journal: Journal) -> Plan:
        listings = [] if self._manifests_only else self._listings(vfs)
        with Progress(self._voice.progress_stream) as progress:
            planner = Planner(
                self._layout,
                vfs.facts,
                journal,
                vfs.store.source,
                skip_checks=self._config.skip_s3_checks,
                bypass=self._config.bypass_existing,
                on_facts=progress.facts,
            )
            url = metadata_url(self._config.version) if self._config.metadata else ""
            return planner.plan(listings, metadata_url=url)

    def _listings(self, vfs: VFS) -> list[Listing]:
        names = self._config.datasets
        for error in vfs.catalog.load(names).values():
            raise error
        listings = [vfs.catalog.listing(name) for name in names]
        if not any(listing.entries for listing in listings):
            rows = sum(len(listing.manifest.entries) for listing in listings)
            if rows:
                raise ConfigError(
                    f"0 of {rows} rows of {' '.join(names)} match this selection",
                    hint="check --benchmarks, --universities, --video_uids and the other filters",
                )
        return listings

    def _fetch(self, vfs: VFS, journal: Journal) -> int:
        ReleaseFiles(self._layout).offer_metadata()
        plan = self._plan(vfs, journal)
        free = self._layout.free_bytes()
        self._voice.plan(plan, free, is_all=False)
        needed = plan.bytes(*TO_GET) - plan.begun_bytes
        if needed > free:
            raise _no_room(needed, free, self._layout.root)
        if plan.count(*TO_GET) and not self._config.assume_yes and not self._voice.confirms(plan):
            return ExitCode.OK
        self._layout.prepare(self._config.datasets)
        self._write_manifests(vfs)
        means = Means(vfs.store, vfs.facts, vfs.cache, journal, self._layout, self._config.version)
        fetcher = Fetcher(means, plan, jobs=self._jobs)
        began_s = time.monotonic()
        with Progress(self._voice.progress_stream) as progress:
            ended = fetcher.run(lambda: progress.show(fetcher.report))
        return self._finish(fetcher.report, time.monotonic() - began_s, ended=ended)

    def _write_manifests(self, vfs: VFS) -> None:
        files = ReleaseFiles(self._layout)
        if self._config.manifest_override_path is None:
            for name in self._config.datasets:
                files.manifest(vfs.catalog.listing(name))
        if self._config.manifest:
            path = files.top_manifest(vfs.catalog.listing(_TOP_MANIFEST))
            self._voice.say(f"Manifest downloaded: {path}")

    def _finish(self, report: Report, seconds: float, *, ended: bool) -> int:
        if self._config.metadata:
            path = ReleaseFiles(self._layout).metadata()
            if path is not None:
                self._voice.say(f"Ego4D Metadata: {path}")
        again = command_line(_parser(), self._args)
        code = self._voice.report(report, seconds, again)
        if not ended:
            # Threads that wait for an answer cannot be stopped, and must not outlive Python.
            sys.stdout.flush()
            os._exit(code)
        return code


def _parser() -> Parser:
    parser = Parser(prog="ego4dfs prefetch")
    add_arguments(parser)
    return parser


def _checked_output(config: Config) -> Path:
    if config.output_directory is None:
        raise ConfigError(
            "no output directory was given",
            hint="say where copies go: ego4dfs prefetch -o ~/ego4d_data --datasets annotations",
        )
    out = Path(os.path.realpath(config.output_directory))
    for mount in mounts():
        at = mount.mountpoint
        if mount.is_ours and (at == out or at in out.parents or out in at.parents):
            raise MountError(
                f"{out}: an ego4dfs is mounted at {at}, and a mount is read-only",
                hint=f"`ego4dfs unmount {at}` first, or name another directory with -o",
            )
    return out


def _no_room(needed: int, free: int, root: Path) -> Ego4DError:
    return OutputError(
        f"{root}: {needed / 2**30:.2f} GiB are to come, and {free / 2**30:.2f} GiB are free",
        hint="make room, choose less, or mount it: `ego4dfs mount` needs no room for all of it",
    )


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end a run as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
