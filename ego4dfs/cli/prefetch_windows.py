"""`ego4dfs prefetch --to cache --windows`: what windows of videos need, in the cache."""

from __future__ import annotations

import time

from ego4dfs.catalog import Listing
from ego4dfs.cli.output import ExitCode, print_json
from ego4dfs.cli.prefetch_cache import ToCache, as_missing
from ego4dfs.cli.prefetch_indexes import videos_of
from ego4dfs.cli.prefetch_printer import problems_document, report_code, share_document
from ego4dfs.cli.retry_commands import RetryCommands
from ego4dfs.cli.windows_file import (
    bad_rows_document,
    say_bad_rows,
    unselected_line,
    window_rows,
)
from ego4dfs.copies import State
from ego4dfs.errors import ConfigError, Ego4DError
from ego4dfs.prefetch import (
    COMPLETE,
    TO_FETCH,
    CacheWarmer,
    Plan,
    Report,
    WindowPlan,
    WindowPlanner,
)
from ego4dfs.session import Session
from ego4dfs.text import counted, human_size

_HOUR_S = 3600


class WindowsToCache(ToCache):
    """One run of `prefetch --to cache --windows`."""

    _has_bad_rows = False

    def _fetch(
        self,
        session: Session,
        listings: list[Listing],
        refused: dict[str, Ego4DError],
        retry: RetryCommands,
    ) -> int:
        """Fetch what the windows need. Raises ConfigError if none can be used."""
        warmer, began_s = self._warmer(session), time.monotonic()
        found = self._find(session, warmer, videos_of(listings))
        report = found.report
        report.refused.update(refused)
        if report.stopped_by is not None or not found.has_ended:
            seconds = time.monotonic() - began_s
            return self._end(session, report, seconds, retry, ended=found.has_ended)
        if self._cluster is not None:
            found.plan = as_missing(found.plan)
        self._has_bad_rows = bool(found.bad.count)
        self._show(session, found)
        self._check_room(session, warmer, found.plan)
        if self._args.dry_run:
            self._printer.problems(report)
            return self._code(report)
        if not self._is_confirmed(found.plan):
            return ExitCode.OK
        if self._cluster is None and not found.plan.count(*TO_FETCH):
            self._printer.say("All that the windows need is cached.")
        return self._run_warmer(session, warmer, found.plan, retry, report, **_document(found))

    def _find(self, session: Session, warmer: CacheWarmer, listings: list[Listing]) -> WindowPlan:
        with self._planning(warmer) as progress:
            planner = WindowPlanner(
                session,
                warmer,
                retry_for_s=self._config.retry_for_s,
                on_facts=progress.facts,
                shard=self._shard,
            )
            rows = window_rows(session, self._config, self._args.windows, progress.rows)
            return planner.plan(rows, listings, progress.show)

    def _show(self, session: Session, found: WindowPlan) -> None:
        """Print the plan, and name the rows that are left out. Raises ConfigError if all are."""
        if not self._args.json:
            say_bad_rows(found.bad)
        if found.unselected:
            self._printer.say(unselected_line(found.unselected))
        share = found.plan.share
        self._printer.share(share)
        is_empty = share is not None and not share.files  # the windows are those of other shards
        if not (found.windows or found.report.problems or is_empty):
            raise ConfigError(f"--windows {self._args.windows}: none of its windows can be used")
        self._printer.say(
            f"{counted(found.windows, 'window')} of {counted(found.videos, 'video')},"
            f" {_duration(found.seconds)}: {human_size(found.plan.bytes(*State))} of"
            f" {human_size(found.video_bytes)} are needed, {human_size(_cached(found.plan))} are"
            f" cached; {self._room(session)}."
        )
        if self._args.dry_run and self._args.json:
            document = {**_document(found), **problems_document(found.report)}
            print_json({**document, **share_document(share)})

    def _code(self, report: Report) -> int:
        """Return the exit code of a run: partly done if rows were left out."""
        code = report_code(report)
        return ExitCode.PARTIAL if code == ExitCode.OK and self._has_bad_rows else code


def _duration(seconds: float) -> str:
    return f"{seconds / _HOUR_S:.1f} hours" if seconds >= _HOUR_S / 10 else f"{seconds:.1f} s"


def _cached(plan: Plan) -> int:
    """Return how many of the needed bytes are cached."""
    return plan.bytes(*COMPLETE) + plan.partial_bytes


def _document(found: WindowPlan) -> dict[str, object]:
    """Return the plan for programs; `cached_bytes` of a report has another meaning."""
    return {
        "windows": found.windows,
        "videos": found.videos,
        "window_seconds": round(found.seconds, 3),
        "needed_bytes": found.plan.bytes(*State),
        "window_bytes": found.window_bytes,
        "needed_cached_bytes": _cached(found.plan),
        "video_bytes": found.video_bytes,
        "windows_not_selected": found.unselected,
        **bad_rows_document(found.bad),
    }
