"""The read-ahead window of an open video: groups of pictures in place of powers of two."""

from __future__ import annotations

from itertools import accumulate
from mmap import PAGESIZE

import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.facts import MediaFacts
from ego4dfs.reader import VideoWindow, Window
from ego4dfs.reader.video_window import (
    GROUP_REQUEST_BYTES,
    KERNEL_AHEAD_BYTES,
    MAX_AHEAD_BYTES,
    MAX_GROUP_BYTES,
    MAX_RUN_GROUPS,
    MAX_STEPPED_BYTES,
    MIN_AHEAD_BYTES,
)
from ego4dfs.reader.window import READAHEAD_STEP
from kit.data import MIB
from kit.page_cache import Clock

KIB = 1 << 10

GROUP = 2400 * KIB
HEAD = 700 * KIB
KERNEL = 128 * KIB


def facts(*sizes: int, sound_bytes: int = 0, head: int = HEAD) -> MediaFacts:
    """Return groups of these sizes, which begin so much before the end of the one before."""
    bounds = list(accumulate(sizes, initial=head))
    starts = [bounds[0], *(bound - sound_bytes for bound in bounds[1:-1])]
    times = range(0, 120 * len(sizes), 120)
    return MediaFacts(range(32, HEAD), 30, 120 * len(sizes), times, starts, bounds[1:])


TEN = facts(*[GROUP] * 10)


def still() -> float:
    """Return the time of a reader whose pace is not known."""
    return 0.0


def opened(known: MediaFacts = TEN) -> VideoWindow:
    """Return the window of a program that has read the start of the file."""
    window = VideoWindow(lambda: known, clock=still)
    window.advance(0, KERNEL)
    return window


def rounded(stop: int) -> int:
    return -(-stop // PART_SIZE) * PART_SIZE


def read(window: Window, start: int, stop: int) -> list[int]:
    """Read as a kernel does; return where the bytes ended that were fetched ahead."""
    ends = []
    for first in range(start, stop, KERNEL):
        ahead = window.advance(first, min(first + KERNEL, stop))
        ends += [ahead.stop] if ahead is not None else []
    return ends


def most(known: MediaFacts, group: int) -> int:
    """Return where the bytes end that a seek to a group fetches."""
    return rounded(known.starts[group] + (known.stops[group] - known.starts[group]) * 3 // 4)


def test_a_seek_fetches_most_of_the_group_by_several_requests():
    window = opened()
    start = TEN.starts[4]
    ahead = window.advance(start, start + KERNEL)
    assert ahead == range(start + KERNEL, most(TEN, 4))
    assert (window.granularity, window.request_bytes) == (PART_SIZE, GROUP_REQUEST_BYTES)


@pytest.mark.parametrize("before", [1, PAGESIZE - 1])
def test_the_page_in_which_a_group_begins_may_begin_in_the_group_before(before):
    window = opened()
    start = TEN.starts[4] - before
    assert window.advance(start, start + KERNEL) is not None
    assert window.first_byte(start) == start
    assert window._ahead == rounded(start + (TEN.stops[4] - start) * 3 // 4)


def test_most_of_the_group_is_read_without_a_request():
    window = opened()
    assert read(window, TEN.starts[4], most(TEN, 4) - MIN_AHEAD_BYTES) == [most(TEN, 4)]


def test_what_follows_is_fetched_by_parts_ahead_of_the_reader_and_then_by_half_groups():
    window = opened()
    stepped = TEN.stops[4] + MAX_STEPPED_BYTES
    ends = read(window, TEN.starts[4], stepped)
    assert ends == list(range(most(TEN, 4), stepped + 2 * PART_SIZE, PART_SIZE))
    assert read(window, stepped, stepped + KERNEL) == [rounded(TEN.stops[5])]
    third = (TEN.starts[6] + TEN.stops[6]) // 2
    assert read(window, TEN.stops[5], TEN.stops[5] + KERNEL) == [rounded(third)]


@pytest.mark.parametrize(
    ("bytes_per_s", "ahead"),
    [(1e6, MIN_AHEAD_BYTES), (8 * MIB, 320 * KIB - KERNEL_AHEAD_BYTES), (1e9, MAX_AHEAD_BYTES)],
)
def test_what_follows_is_fetched_as_far_ahead_as_the_reader_goes_on_during_a_request(
    bytes_per_s, ahead
):
    clock = Clock()
    window = VideoWindow(lambda: TEN, TEN, clock)
    start, waited_s = TEN.starts[4], 40 * KIB / MIB
    for at in range(start, TEN.stops[4], KERNEL):
        window.advance(at, at + KERNEL)
        clock.now_s += waited_s if at == start else KERNEL / bytes_per_s
    stop = TEN.stops[4] + KERNEL
    window.advance(TEN.stops[4], stop)
    assert rounded(stop) <= window._ahead <= rounded(stop + ahead)
    assert window._ahead >= rounded(stop + ahead * 9 // 10)


def test_a_reader_that_stops_for_long_has_no_more_fetched_than_the_fastest():
    clock = Clock()
    window = VideoWindow(lambda: TEN, TEN, clock)
    for at in range(TEN.starts[4], TEN.stops[4], KERNEL):
        window.advance(at, at + KERNEL)
        clock.now_s += 3600 if at == TEN.starts[4] else 0.01
    assert window._ahead <= rounded(TEN.stops[4] + KERNEL + MAX_AHEAD_BYTES)


@pytest.mark.parametrize(
    ("groups", "expected"), [(1, True), (MAX_RUN_GROUPS, True), (MAX_RUN_GROUPS + 1, False)]
)
def test_a_reader_of_a_few_groups_after_a_seek_reads_windows(groups, expected):
    window = opened()
    assert not window.reads_windows
    read(window, TEN.starts[4], TEN.stops[3 + groups])
    assert window.reads_windows == expected
    window.advance(TEN.starts[1], TEN.starts[1] + KERNEL)
    assert window.reads_windows == expected


def test_what_a_kernel_reads_ahead_at_the_start_is_no_seek_to_the_first_group():
    """The index is at the end, and programs read it after the first pages of the file."""
    known = facts(*[GROUP] * 4, head=48)
    window = VideoWindow(lambda: known, known, still, first_at_start=PART_SIZE)
    window.advance(0, KERNEL // 2)
    window.advance(known.stops[-1], known.stops[-1] + KERNEL)
    for start in (KERNEL // 2, KERNEL):
        window.advance(start, start + KERNEL // 2)
    assert window._ahead <= PART_SIZE
    assert not window.reads_windows
    window.advance(known.starts[2], known.starts[2] + KERNEL)
    assert window._ahead == most(known, 2)


def test_a_seek_near_the_start_is_one_if_other_videos_have_a_long_index():
    known = facts(*[GROUP] * 4, head=48)
    window = VideoWindow(lambda: known, known, still, first_at_start=8 * BLOCK_SIZE)
    read(window, known.starts[2], known.starts[2] + KERNEL)
    assert window.reads_windows
    assert window._ahead == most(known, 2)


def test_a_reader_of_the_whole_file_reads_no_windows():
    window = opened()
    read(window, KERNEL, TEN.stops[-1])
    assert not window.reads_windows


def test_a_long_run_is_read_ahead_as_other_files_are():
    window = opened()
    read(window, TEN.starts[2], TEN.stops[1 + MAX_RUN_GROUPS] + KERNEL)
    assert (window.granularity, window.request_bytes) == (BLOCK_SIZE, READAHEAD_STEP)
    start = TEN.stops[1 + MAX_RUN_GROUPS] + KERNEL
    ends = read(window, start, start + 4 * MIB)
    assert ends
    assert all(end % READAHEAD_STEP == 0 for end in ends)


def test_what_follows_the_last_group_is_read_as_in_any_file():
    window = opened()
    read(window, TEN.starts[9], TEN.stops[9])
    assert window.request_bytes == GROUP_REQUEST_BYTES
    window.advance(TEN.stops[9], TEN.stops[9] + KERNEL)
    assert window.request_bytes == READAHEAD_STEP
    assert window.reads_windows


def test_what_is_cached_is_not_fetched():
    window = opened()
    for first in range(TEN.starts[4], TEN.stops[5], KERNEL):
        assert window.advance(first, first + KERNEL, missed=False) is None


def test_the_sound_before_a_key_frame_is_fetched_with_its_group():
    known = facts(*[GROUP] * 4, sound_bytes=90_000)
    window = opened(known)
    start = known.stops[0]  # where the key frame is
    window.advance(start, start + KERNEL)
    assert window.first_byte(start) == known.starts[1] == start - 90_000
    assert window.advance(known.starts[1], known.starts[1] + KERNEL) is None
    assert window.first_byte(start + 2 * KERNEL) == start + 2 * KERNEL


def test_a_seek_into_the_middle_of_a_group_fetches_its_rest_only():
    window = opened()
    start = TEN.starts[4] + 2 * MIB
    window.advance(start, start + KERNEL)
    assert window.first_byte(start) == start


def test_a_step_back_to_another_group_is_a_seek_even_if_groups_are_short():
    known = facts(*[400 * KIB] * 10)
    window = opened(known)
    window.advance(known.starts[6], known.starts[6] + KERNEL)
    ahead = window.advance(known.starts[3], known.starts[3] + KERNEL)
    assert ahead == range(known.starts[3] + KERNEL, most(known, 3))


def test_a_step_back_within_the_group_is_not_a_seek():
    window = opened()
    read(window, TEN.starts[4], TEN.starts[4] + MIB)
    assert window.advance(TEN.starts[4] + KERNEL, TEN.starts[4] + 2 * KERNEL) is None


@pytest.mark.parametrize(
    ("known", "start"),
    [
        (None, TEN.starts[4]),
        (TEN, TEN.stops[-1] + 100),
        (facts(GROUP, head=8 * MIB), 4 * MIB),
        (facts(GROUP, 2 * MAX_GROUP_BYTES), HEAD + GROUP),
    ],
    ids=["unknown", "after the last group", "before the first group", "a group that is too long"],
)
def test_other_reads_are_as_in_any_file(known, start):
    videos, plain = VideoWindow(lambda: known, clock=still), Window()
    for window in (videos, plain):
        window.advance(0, KERNEL)
    for stop in range(start + KERNEL, start + 6 * MIB, KERNEL):
        assert videos.advance(stop - KERNEL, stop) == plain.advance(stop - KERNEL, stop)
        assert videos.granularity == plain.granularity
        assert videos.request_bytes == plain.request_bytes
        assert videos.first_byte(stop) == plain.first_byte(stop)


def test_facts_that_are_known_at_the_open_are_used_at_the_first_seek():
    window = VideoWindow(lambda: pytest.fail("they were looked for"), TEN)
    assert window.has_facts
    assert not VideoWindow(lambda: TEN).has_facts
    window.advance(TEN.starts[4], TEN.starts[4] + KERNEL)
    assert window.advance(TEN.starts[4] + KERNEL, TEN.starts[4] + 2 * KERNEL) is None
    assert window._ahead == most(TEN, 4)


@pytest.mark.parametrize("known", [None, TEN])
def test_a_read_of_the_whole_file_is_as_in_any_file(known):
    videos, plain = VideoWindow(lambda: TEN, known, still), Window()
    for stop in range(KERNEL, TEN.stops[-1], KERNEL):
        assert videos.advance(stop - KERNEL, stop) == plain.advance(stop - KERNEL, stop)
        assert videos.granularity == plain.granularity


def test_facts_are_looked_for_at_seeks_that_miss_until_they_are_found():
    answers = [None, None, TEN]
    window = VideoWindow(lambda: answers.pop(0))
    read(window, 0, 2 * MIB)
    window.advance(40 * MIB, 40 * MIB + KERNEL, missed=False)
    assert len(answers) == 3
    for start in (20 * MIB, 10 * MIB, 15 * MIB, 3 * MIB):
        window.advance(start, start + KERNEL)
    assert not answers


def test_facts_that_are_never_found_are_not_looked_for_at_each_seek():
    calls: list[int] = []
    window = VideoWindow(lambda: calls.append(1))
    for start in range(MIB, 500 * MIB, 10 * MIB):
        window.advance(start, start + KERNEL)
    assert len(calls) == 8
