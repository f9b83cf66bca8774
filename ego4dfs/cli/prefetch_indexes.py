"""`ego4dfs prefetch --to cache --indexes`: the indexes of videos in the cache."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ego4dfs.blocks import whole_parts
from ego4dfs.catalog import Listing
from ego4dfs.cli.output import ExitCode, print_json
from ego4dfs.cli.prefetch_cache import ToCache
from ego4dfs.cli.prefetch_printer import QUESTION, plan_code, problems_document, share_document
from ego4dfs.cli.progress import Progress
from ego4dfs.cli.retry_commands import RetryCommands
from ego4dfs.cluster import indexes_of_nodes
from ego4dfs.errors import ConfigError, Ego4DError
from ego4dfs.manifest import Entry, filtered
from ego4dfs.media.locate import FIRST_READ_BYTES
from ego4dfs.prefetch import (
    TO_FETCH,
    CacheWarmer,
    IndexTotals,
    IndexWarmer,
    Item,
    Plan,
    Report,
)
from ego4dfs.prefetch.cache_room import check_disk
from ego4dfs.session import Session
from ego4dfs.text import counted, human_size


class IndexesToCache(ToCache):
    """One run of `prefetch --to cache --indexes`."""

    def _fetch(
        self,
        session: Session,
        listings: list[Listing],
        refused: dict[str, Ego4DError],
        retry: RetryCommands,
    ) -> int:
        """Fetch the index of each selected video. Raises ConfigError if there is none."""
        listings = videos_of(listings)
        warmer = self._warmer(session)
        with self._planning(warmer) as progress:
            plan = warmer.plan(
                listings, on_facts=progress.facts, facts_only=True, shard=self._shard
            )
        self._printer.share(plan.share)
        videos = sum(item.facts is not None for item in plan.items)
        size = sum(item.object_size for item in plan.items)
        needed = missing = sum(map(_estimate, plan.items))
        cached = ""
        if self._cluster is None:
            missing = sum(_estimate(item) for item in plan.items if _lacks_head(warmer, item))
            cached = f", of which {human_size(needed - missing)} are cached"
            check_disk(session, missing, self._config.cache_dir)
        self._printer.say(
            f"{counted(videos, 'video')}, {human_size(size)}; the indexes need about"
            f" {human_size(needed)}{cached}; {self._room(session)}."
        )
        if self._args.dry_run:
            estimates = {"needed_bytes": needed, "needed_cached_bytes": needed - missing}
            self._show_plan(plan, refused, videos=videos, video_bytes=size, **estimates)
            return plan_code(plan, refused)
        if videos and not self._config.assume_yes and not self._printer.asks(QUESTION):
            return ExitCode.OK
        return self._fetch_indexes(session, plan, refused, retry)

    def _show_plan(self, plan: Plan, refused: dict[str, Ego4DError], **sums: int) -> None:
        """Name the videos that cannot be fetched; with --json print the plan."""
        report = Report(refused=refused)
        report.leave_out(plan)
        self._printer.problems(report)
        if self._args.json:
            print_json({**sums, **problems_document(report), **share_document(plan.share)})

    def _fetch_indexes(
        self, session: Session, plan: Plan, refused: dict[str, Ego4DError], retry: RetryCommands
    ) -> int:
        began_s = time.monotonic()
        with Progress(self._printer.progress_stream) as progress:
            report, totals, ended = self._run_indexes(session, plan, progress)
        report.refused.update(refused)
        sizes = human_size(totals["index_bytes"]), human_size(totals["video_bytes"])
        indexes = counted(totals["videos"], "index", "indexes")
        self._printer.say(f"{indexes}, {sizes[0]}; the videos have {sizes[1]}.")
        seconds = time.monotonic() - began_s
        return self._end(session, report, seconds, retry, ended=ended, **totals)

    def _run_indexes(
        self, session: Session, plan: Plan, progress: Progress
    ) -> tuple[Report, Mapping[str, int], bool]:
        """Fetch; return the report, the sums, and whether all threads have ended."""
        totals = IndexTotals()
        if self._cluster is None:
            warmer = IndexWarmer(session, totals.add, retry_for_s=self._config.retry_for_s)
            ended = warmer.run(plan, lambda: progress.show(warmer.report), pin=self._pin)
            return warmer.report, totals.document(), ended
        work = indexes_of_nodes(self._config, pin=self._pin)
        fetcher = self._on_nodes(work, plan, self._cluster)
        ended = fetcher.run(lambda: progress.show(fetcher.report))
        return fetcher.report, {**totals.document(), **fetcher.totals}, ended


def _estimate(item: Item) -> int:
    """Return about how many bytes are read to find an index: 0.1 % of a video of full_scale."""
    return min(item.object_size, max(FIRST_READ_BYTES, item.object_size // 1000))


def _lacks_head(warmer: CacheWarmer, item: Item) -> bool:
    """Return whether the start of a video is to be fetched; if not, its index is cached too."""
    if item.facts is None:
        return False
    head = whole_parts([range(min(item.object_size, FIRST_READ_BYTES))], item.object_size)
    return warmer.narrowed(item, head).state in TO_FETCH


def videos_of(listings: Sequence[Listing]) -> list[Listing]:
    """Return the listings with the videos only. Raises ConfigError if there is none."""
    found = [replace(one, entries=filtered(one.entries, _is_video)) for one in listings]
    if not any(listing.entries for listing in found):
        named = " ".join(listing.dataset for listing in listings)
        raise ConfigError(f"no videos are selected of {named}", hint="add --datasets full_scale")
    return found


def _is_video(entry: Entry) -> bool:
    return entry.is_video
