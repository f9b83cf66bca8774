"""What windows of videos cost with the reads that a kernel sends: bytes, requests and waits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import pytest

from ego4dfs.facts import MediaFacts
from ego4dfs.mount.kernel_readahead import KERNEL_KIB, LARGE_KIB, SMALL_KIB
from ego4dfs.reader import VideoWindow, Window
from kit.page_cache import ROUND_TRIP_S, Clock, Network, PageCache

RATE, GROUP, SECONDS, HEAD = 30, 128, 400, 600 << 10
SIZES = [
    60_000 if number % GROUP == 0 else random.Random(number).randint(12_000, 24_000)
    for number in range(SECONDS * RATE)
]
PLACES = list(accumulate(SIZES, initial=HEAD))
KEYS = range(0, len(SIZES), GROUP)
STARTS = [PLACES[number] for number in KEYS]
FACTS = MediaFacts(range(32, HEAD), RATE, len(SIZES), KEYS, STARTS, [*STARTS[1:], PLACES[-1]])
STEP = 32 << 10
"""What FFmpeg reads at a time."""
DECODED_BYTES_PER_S = 8e6
"""Fifteen times as fast as the video is played."""
FAST_BYTES_PER_S = 15e6
SLOW_BYTES_PER_S = 3e6
LATER_FRAMES = 3
"""How many more pictures a decoder takes before it returns one."""


@dataclass
class Costs:
    """The sums of some windows."""

    needed: int = 0
    fetched: int = 0
    requests: int = 0
    waits: int = 0


def windows(count: int, seconds: int) -> Iterator[tuple[int, int, int]]:
    """Yield where windows begin, where the bytes end that they need, and those that are read."""
    chance = random.Random(5)
    for _ in range(count):
        first = chance.randrange(5 * RATE, len(SIZES) - (seconds + 5) * RATE)
        last = first + seconds * RATE
        yield PLACES[first // GROUP * GROUP], PLACES[last], PLACES[last + LATER_FRAMES]


def opened() -> Network:
    """Return the network below a video whose index is known."""
    clock = Clock()
    return Network(VideoWindow(lambda: FACTS, FACTS, clock), clock)


def decoded(
    network: Network,
    read_ahead_kib: int,
    start: int,
    stop: int,
    bytes_per_s: float = DECODED_BYTES_PER_S,
) -> int:
    """Read as a decoder does, through a kernel; return how often it waited for a request."""
    pages, now_s, waits = PageCache(network, read_ahead_kib << 10), 1.0, 0
    for offset in range(start, stop, STEP):
        there_s = pages.read(now_s, offset, STEP)
        waits += there_s - now_s > ROUND_TRIP_S / 10
        now_s = there_s + STEP / bytes_per_s
    return waits


def costs(
    read_ahead_kib: int,
    *,
    seconds: int = 2,
    count: int = 200,
    bytes_per_s: float = DECODED_BYTES_PER_S,
) -> Costs:
    found = Costs()
    for start, needed_stop, stop in windows(count, seconds):
        network = opened()
        network.window.advance(0, STEP)
        found.waits += decoded(network, read_ahead_kib, start, stop, bytes_per_s)
        found.needed += needed_stop - start
        found.fetched += network.fetched
        found.requests += network.requests
    return found


@pytest.mark.parametrize(
    ("bytes_per_s", "most"),
    [(SLOW_BYTES_PER_S, 1.26), (DECODED_BYTES_PER_S, 1.31), (FAST_BYTES_PER_S, 1.42)],
)
@pytest.mark.parametrize("read_ahead_kib", [SMALL_KIB, KERNEL_KIB])
def test_a_window_of_two_seconds_waits_once(bytes_per_s, most, read_ahead_kib):
    """A fast decoder has more fetched ahead of it, a slow one little more than it needs."""
    count = 200
    found = costs(read_ahead_kib, count=count, bytes_per_s=bytes_per_s)
    assert found.waits == count
    assert found.fetched <= (most + (read_ahead_kib == KERNEL_KIB) * 0.05) * found.needed
    assert found.requests <= 8 * count


@pytest.mark.parametrize(("seconds", "most"), [(1, 1.5), (4, 1.25), (8, 1.2)])
def test_shorter_and_longer_windows_fetch_little_more_than_they_need(seconds, most):
    count = 60
    found = costs(SMALL_KIB, seconds=seconds, count=count)
    assert found.fetched <= most * found.needed
    assert found.waits == count


def test_the_large_read_ahead_of_a_kernel_fetches_twice_what_a_window_needs():
    """So it is small for videos whose index is recorded."""
    count = 60
    found = costs(LARGE_KIB, count=count)
    assert 1.8 * found.needed <= found.fetched <= 2.15 * found.needed
    assert found.waits == count


@pytest.mark.parametrize("read_ahead_kib", [SMALL_KIB, LARGE_KIB])
def test_a_whole_video_costs_what_any_file_costs(read_ahead_kib):
    ours, plain = opened(), Network(Window())
    stop = PLACES[60 * RATE]
    for network in (ours, plain):
        decoded(network, read_ahead_kib, 0, stop)
    assert ours.arrivals == plain.arrivals
    assert ours.requests == plain.requests


def test_a_long_read_after_a_seek_costs_few_requests_more_than_in_any_file():
    start, stop = STARTS[20], STARTS[20] + (100 << 20)
    ours, plain = opened(), Network(Window())
    for network in (ours, plain):
        network.window.advance(0, STEP)
        decoded(network, SMALL_KIB, start, stop)
    assert ours.requests <= plain.requests + 12
    assert ours.fetched <= plain.fetched + (2 << 20)
