"""The pages of `ego4dfs browse`: the videos after a start, a search, and the first picture."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import RunError, browse_pages, mount_video
from benchmarks.goals import at_most
from benchmarks.mount_video import Films
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.servers import Servers
from ego4dfs.demo.videos import CONSORTIUM

if TYPE_CHECKING:
    from playwright.sync_api import Page

VIDEOS = 9_645
NARRATIONS = 4_000_000
_SEARCHES = ("knife", "the", '"picks up the knife"', "cuts bread", "kni", "opens drawer 7")
_NAME = "ego4dfs browse"


@contextmanager
def _start(servers: Servers) -> Iterator[Sequence[Contender]]:
    """Read all annotations once; each run begins with what is kept of that."""
    browse_pages.publish(servers, VIDEOS, NARRATIONS)
    cache = servers.empty("browse-cache")
    datasets = (browse_pages.DATASET, "annotations")
    begin = time.monotonic()
    with browse_pages.browsing(servers, "lan", cache, datasets) as pages:
        pages.answer("catalogue")
        pages.wait_until_read()
        built = {"built_s": time.monotonic() - begin, "built_mib": pages.peak_mib()}
    yield [Contender(_NAME, partial(_search, servers, cache, datasets, built))]


def _search(servers: Servers, cache: Path, datasets: Sequence[str], built: Sample) -> Sample:
    begin = time.monotonic()
    with browse_pages.browsing(servers, "lan", cache, datasets) as pages:
        videos = pages.answer("catalogue")["videos"]
        start_s = time.monotonic() - begin
        pages.wait_until_read()
        waits = []
        for words in _SEARCHES:
            asked = time.monotonic()
            found = pages.answer("search", q=words)["tracks"]
            waits.append((time.monotonic() - asked) * 1e3)
            if not found:
                raise RunError(f"nothing was found with {words}")
        if len(videos) != VIDEOS:
            raise RunError(f"{len(videos)} videos are shown of {VIDEOS}")
        times = {"start_s": start_s, "search_ms": median(waits), "slowest_ms": max(waits)}
        return {**times, "peak_mib": pages.peak_mib(), **built}


@contextmanager
def _click(servers: Servers) -> Iterator[Sequence[Contender]]:
    films = mount_video.publish(servers, "browse_click", 1, mount_video.LONG)
    servers.s3.put(CONSORTIUM, "public/v2_1/ego4d.json", b'{"videos": [], "clips": []}')
    missing = "" if shutil.which("chromium") else "missing: chromium"
    yield [Contender(_NAME, partial(_first_picture, servers, films), missing)]


def _first_picture(servers: Servers, films: Films) -> Sample:
    """Open the page of a video at a second of its middle, and wait for a picture."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - it may be missing

    cache = servers.empty("cache")
    at_s = films.clip.duration_s // 2
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        browse_pages.browsing(servers, "wan", cache, [films.dataset]) as pages,
        sync_playwright() as playwright,
    ):
        pages.answer("catalogue")
        pages.wait_until_read()
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        page = browser.new_page()
        before, begin = servers.counts("wan"), time.monotonic()
        page.goto(f"{pages.url}video.html?uid={films.uids[0]}#t={at_s}")
        _wait_for_picture(page, at_s)
        first_s, after = time.monotonic() - begin, servers.counts("wan")
        peak_mib = pages.peak_mib()
        browser.close()
    if before is None or after is None:
        raise RunError("the distant server counts nothing")
    moved = after.since(before)
    return {
        "first_s": first_s,
        "fetched_mib": moved.sent / (1 << 20),
        "requests": moved.requests,
        "peak_mib": peak_mib,
    }


def _wait_for_picture(page: Page, at_s: int) -> None:
    """Wait until the video shows its picture of a second. The pages forbid `wait_for_function`."""
    end_s = time.monotonic() + 60
    shown = f"one => one.currentTime == {at_s} && one.readyState >= 2 && !one.seeking"
    while not page.locator("video").evaluate(shown):
        if time.monotonic() > end_s:
            raise RunError("no picture was shown")
        time.sleep(0.01)


_PEAK = Column("peak_mib", "peak MiB", digits=0)
_MEMORY = at_most("at most 300 MiB", "peak_mib", 300)
ROWS = (
    Row(
        "browse-start",
        "browse",
        f"start with {VIDEOS:,} videos and {NARRATIONS:,} narrations that were read before, then"
        f" {len(_SEARCHES)} searches, near server",
        (
            Column("start_s", "s to the videos", spread=True),
            Column("search_ms", "search ms", digits=1),
            Column("slowest_ms", "slowest ms", digits=1),
            _PEAK,
            Column("built_s", "read before in s", digits=0),
            Column("built_mib", "peak MiB then", digits=0),
        ),
        _start,
        goals=(
            at_most("the videos within 1 s", "start_s", 1),
            at_most("each search within 100 ms", "slowest_ms", 100),
            _MEMORY,
            at_most("at most 300 MiB while annotations are read", "built_mib", 300),
        ),
    ),
    Row(
        "browse-click",
        "browse",
        f"from a click to the picture in the middle of a video of {mount_video.LONG.duration_s} s,"
        " cold, distant server",
        (
            Column("first_s", "s to the picture", spread=True),
            Column("fetched_mib", "fetched MiB"),
            Column("requests", "requests", digits=0),
            _PEAK,
        ),
        _click,
        needs_wan=True,
        goals=(
            at_most("the picture within 1 s", "first_s", 1),
            at_most("at most 4 MB (3.81 MiB) fetched", "fetched_mib", 4_000_000 / (1 << 20)),
            _MEMORY,
        ),
    ),
)
