"""`ego4dfs clip --windows FILE -o DIR`: the clips of many windows."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ego4dfs import datasets
from ego4dfs.catalog import Listing
from ego4dfs.cli.clip_progress import ClipProgress
from ego4dfs.cli.options import config_from, path_of
from ego4dfs.cli.output import ExitCode, end_process, exit_code, print_error, print_json, say
from ego4dfs.cli.prefetch_indexes import videos_of
from ego4dfs.cli.prefetch_printer import SHOWN, without_url
from ego4dfs.cli.windows_file import (
    bad_rows_document,
    say_bad_rows,
    unselected_line,
    window_rows,
)
from ego4dfs.clips import ClipReport, ClipRun
from ego4dfs.config import Config
from ego4dfs.errors import AccessDenied, ConfigError, Ego4DError
from ego4dfs.text import counted, human_size
from ego4dfs.vfs import VFS, open_vfs
from ego4dfs.vfs.tree import join


def write_clips(args: argparse.Namespace) -> int:
    """Write the clips of all windows, and report."""
    directory = _directory(args)
    config = config_from(args)
    if not config.datasets:
        config = replace(config, datasets=(datasets.PRIMARY,))
    began_s = time.monotonic()
    vfs = open_vfs(config)
    try:
        run = ClipRun(
            vfs,
            directory,
            exact=args.exact,
            overwrite=args.overwrite,
            retry_for_s=config.retry_for_s,
        )
        has_ended = _run(run, vfs, config, args)
    finally:
        vfs.close()
    report = run.report
    fetched = vfs.session.metrics.bytes_fetched
    _Printer(args, report, directory).print(fetched, time.monotonic() - began_s)
    code = _code(report)
    if not has_ended:
        end_process(code)
    return code


def _directory(args: argparse.Namespace) -> Path:
    """Return the directory of the clips. Raises ConfigError if there is none."""
    given = getattr(args, "output_directory", None)
    if given is None:
        raise ConfigError("--windows: no directory was given", hint="name one with -o DIR")
    return path_of(given, "-o")


def _run(run: ClipRun, vfs: VFS, config: Config, args: argparse.Namespace) -> bool:
    listings = videos_of([vfs.session.catalog.listing(name) for name in config.datasets])
    with ClipProgress(None if args.quiet else sys.stderr) as progress:
        rows = window_rows(vfs.session, config, args.windows, progress.rows)
        return run.run(rows, listings, _paths(config, listings), lambda: progress.clips(run.report))


def _paths(config: Config, listings: Sequence[Listing]) -> dict[str, str]:
    """Return the path in the tree of each file, by URL; of the first dataset that lists it."""
    root = datasets.version_directory(config.version)
    found: dict[str, str] = {}
    for listing in listings:
        directory = join(root, listing.dataset)
        for entry in listing.entries:
            found.setdefault(entry.url, join(directory, entry.name))
    return found


def _has_none(report: ClipReport) -> bool:
    """Return whether none of the windows can be used."""
    return not (report.done_windows or report.failures or report.stopped_by)


def _code(report: ClipReport) -> int:
    error = report.stopped_by
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if error is not None:
        return exit_code(error) if isinstance(error, Ego4DError) else ExitCode.FAILURE
    if _has_none(report):
        return ExitCode.USAGE
    if not report.failures:
        return ExitCode.PARTIAL if report.bad.count else ExitCode.OK
    if report.done_windows:
        return ExitCode.PARTIAL
    are_refused = all(isinstance(one.error, AccessDenied) for one in report.failures)
    return ExitCode.REFUSED if are_refused else ExitCode.FAILURE


class _Printer:
    """Prints the report of a run."""

    def __init__(self, args: argparse.Namespace, report: ClipReport, directory: Path) -> None:
        self._args = args
        self._report = report
        self._directory = directory

    def print(self, fetched: int, seconds: float) -> None:
        """Print it, and what stopped the run."""
        report = self._report
        if self._args.json:
            print_json(self._document(fetched, seconds))
        else:
            self._left_out()
        if _has_none(report):
            message = f"--windows {self._args.windows}: none of its windows can be used"
            print_error(ConfigError(message))
        elif not (self._args.json or self._args.quiet):
            say(self._line(fetched, seconds))
        self._stopped()

    def _left_out(self) -> None:
        report = self._report
        say_bad_rows(report.bad)
        for one in report.failures_by_path[:SHOWN]:
            say(f"  {one.path}: {without_url(one.reason)}", file=sys.stderr)
        if len(report.failures) > SHOWN:
            rest = len(report.failures) - SHOWN
            say(f"  … and {rest} more; --json names all", file=sys.stderr)
        if report.unselected and not self._args.quiet:
            say(unselected_line(report.unselected))

    def _stopped(self) -> None:
        error = self._report.stopped_by
        if isinstance(error, Ego4DError):
            print_error(error)
        elif error is not None and not isinstance(error, KeyboardInterrupt):
            raise error
        if error is not None:
            what = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Stopped"
            say(
                f"{what}; the clips that were written are complete."
                " The same command continues with the others.",
                file=sys.stderr,
            )

    def _line(self, fetched: int, seconds: float) -> str:
        report = self._report
        if report.existing + report.duplicates == report.windows:
            return f"{self._directory}: {counted(report.existing, 'clip')}, all existed."
        more = [f"{report.existing} existed"] if report.existing else []
        more += [f"{counted(report.duplicates, 'duplicate')}"] if report.duplicates else []
        more += [f"{report.failed} failed"] if report.failed else []
        shown_s = sum(one.seconds for one in report.written)
        return (
            f"{self._directory}: {counted(len(report.written), 'clip')}, {shown_s:.1f} s,"
            f" {human_size(report.written_bytes)} written, {human_size(fetched)} fetched"
            f" in {seconds:.1f} s{''.join(f'; {one}' for one in more)}."
        )

    def _document(self, fetched: int, seconds: float) -> dict[str, object]:
        report, error = self._report, self._report.stopped_by
        return {
            "directory": self._directory,
            "clips": [
                {
                    "file": one.file,
                    "video": one.video,
                    "start_s": one.start_s,
                    "end_s": one.end_s,
                    "seconds": round(one.seconds, 6),
                    "bytes_written": one.size,
                }
                for one in sorted(report.written)
            ],
            "existing": report.existing,
            "duplicates": report.duplicates,
            "failed": report.failed,
            "failures": [
                {"path": one.path, "reason": one.reason, "clips": one.clips}
                for one in report.failures_by_path
            ],
            "windows_not_selected": report.unselected,
            **bad_rows_document(report.bad),
            "bytes_written": report.written_bytes,
            "bytes_fetched": fetched,
            "run_seconds": round(seconds, 3),
            "stopped_by": None if error is None else str(error) or type(error).__name__,
            "exit_code": int(_code(report)),
        }
