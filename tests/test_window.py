"""The read-ahead window of one open file."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.reader import ExactWindow, Window
from ego4dfs.reader.window import (
    FIRST_AFTER_SEEK,
    FIRST_AT_START,
    MAX_BACKWARD_STEP,
    MAX_FIRST_AFTER_SEEK,
    MAX_FORWARD_STEP,
    MAX_WINDOW,
    READAHEAD_STEP,
    SEQUENTIAL_AFTER,
)

KERNEL = 128 * 1024


def sequence(start: int, count: int, size: int = KERNEL) -> list[tuple[int, int]]:
    return [(start + i * size, start + (i + 1) * size) for i in range(count)]


def ahead_of(window: Window, reads: list[tuple[int, int]]) -> list[range]:
    """Return the ranges that these reads cause to be fetched ahead."""
    return [ahead for start, stop in reads if (ahead := window.advance(start, stop)) is not None]


@pytest.mark.parametrize("start", [0, 1, BLOCK_SIZE, 50 * BLOCK_SIZE + 7])
def test_a_first_read_is_rounded_up_to_a_few_parts(start):
    (ahead,) = ahead_of(Window(), [(start, start + KERNEL)])
    least = FIRST_AFTER_SEEK if start else FIRST_AT_START
    assert ahead == range(start + KERNEL, (start + least) // PART_SIZE * PART_SIZE)


def test_a_first_read_of_cached_bytes_fetches_nothing():
    assert Window().advance(0, KERNEL, missed=False) is None


@pytest.mark.parametrize("start", [0, 50 * BLOCK_SIZE + 7])
def test_before_the_window_opens_read_ahead_is_at_most_the_bytes_read(start):
    window, furthest = Window(), 0
    for number, (first, stop) in enumerate(sequence(start, SEQUENTIAL_AFTER // KERNEL), start=1):
        ahead = window.advance(first, stop)
        furthest = ahead.stop if ahead is not None else furthest
        assert furthest - start <= max(
            FIRST_AFTER_SEEK if start else FIRST_AT_START, 2 * number * KERNEL
        )
        assert window.granularity == PART_SIZE
    window.advance(start + SEQUENTIAL_AFTER, start + SEQUENTIAL_AFTER + KERNEL)
    assert window.granularity == BLOCK_SIZE


def test_a_window_opens_after_more_than_the_length_of_an_index():
    assert ahead_of(Window(), [(0, SEQUENTIAL_AFTER)]) == []
    window = Window()
    start = SEQUENTIAL_AFTER + 1
    assert ahead_of(window, [(0, start)]) == [range(start, READAHEAD_STEP)]
    assert window.granularity == BLOCK_SIZE


@pytest.mark.parametrize("size", [4096, KERNEL, BLOCK_SIZE, 3 * BLOCK_SIZE + 5])
def test_a_window_grows_to_its_limit_with_sequential_reads(size):
    window, furthest = Window(), 0
    lengths = []
    for start, stop in sequence(0, 200 * BLOCK_SIZE // size, size):
        ahead = window.advance(start, stop)
        if ahead is not None:
            furthest = ahead.stop
        lengths.append(furthest - stop)
    assert MAX_WINDOW - READAHEAD_STEP <= max(lengths) <= MAX_WINDOW
    assert min(lengths[len(lengths) // 2 :]) >= 0


@pytest.mark.parametrize("size", [4096, KERNEL, BLOCK_SIZE, 3 * BLOCK_SIZE + 5])
def test_a_sequential_reader_never_reaches_unrequested_bytes(size):
    """Once the window is open, the next read was requested before."""
    window = Window()
    before = 2 * SEQUENTIAL_AFTER // size + 2
    furthest = max(ahead.stop for ahead in ahead_of(window, sequence(0, before, size)))
    for start, stop in sequence(before * size, 60 * BLOCK_SIZE // size, size):
        ahead = window.advance(start, stop)
        if ahead is not None:
            furthest = max(furthest, ahead.stop)
        assert furthest >= stop


@given(st.lists(st.integers(1, 2 * BLOCK_SIZE), min_size=1, max_size=60))
def test_read_ahead_is_at_most_twice_the_bytes_read(sizes):
    window, position, furthest = Window(), 0, 0
    for size in sizes:
        ahead = window.advance(position, position + size)
        position += size
        if ahead is not None:
            furthest = ahead.stop
        assert furthest - position <= max(FIRST_AT_START, 2 * position)


@given(st.lists(st.integers(1, 2 * BLOCK_SIZE), min_size=1, max_size=60))
def test_each_byte_is_fetched_ahead_once_and_without_gaps(sizes):
    window, position, named = Window(), 0, []
    for size in sizes:
        ahead = window.advance(position, position + size)
        position += size
        if ahead is not None:
            named.append(ahead)
    assert all(len(ahead) > 0 for ahead in named)
    for one, following in pairwise(named):
        assert following.start >= one.stop


def test_small_steps_back_do_not_count_as_a_seek():
    """The kernel reorders its requests, and an MP4 is read with small steps back."""
    window, rng = Window(), random.Random(7)
    furthest = 0
    reads = sequence(0, 400)
    for i in range(0, 400, 8):
        part = reads[i : i + 8]
        rng.shuffle(part)
        for start, stop in part:
            ahead = window.advance(start, stop)
            if ahead is not None:
                assert ahead.start >= furthest
                furthest = ahead.stop
    assert furthest > 400 * KERNEL


@pytest.mark.parametrize(
    "seek",
    [MAX_BACKWARD_STEP + KERNEL + 1, -MAX_FORWARD_STEP - 1, -50 * BLOCK_SIZE, 20 * BLOCK_SIZE],
)
def test_a_far_seek_closes_the_window(seek):
    """Back by `seek` bytes, or forward where it is negative."""
    window, end = Window(), 40 * BLOCK_SIZE
    assert ahead_of(window, sequence(0, end // KERNEL))
    target = end - seek
    ahead = window.advance(target, target + KERNEL)
    assert ahead is not None
    assert ahead.stop <= target + MAX_FIRST_AFTER_SEEK
    assert window.granularity == PART_SIZE


def looks(window: Window, places: list[int], size: int = KERNEL) -> list[int]:
    """Read at distant places and return the number of bytes that each first read requested."""
    sizes = []
    for place in places:
        reads = sequence(place, max(1, size // KERNEL))
        named = ahead_of(window, reads)
        sizes.append(named[0].stop - place if named else KERNEL)
    return sizes


PLACES = [number * 100 * BLOCK_SIZE for number in range(1, 40)]


def test_random_reads_fetch_only_a_few_parts_once_they_are_recognised():
    sizes = looks(Window(), random.Random(3).sample(PLACES, len(PLACES)))
    assert max(sizes[:4]) <= FIRST_AFTER_SEEK
    assert max(sizes[4:]) <= FIRST_AT_START


def test_windows_are_fetched_in_the_size_of_the_previous_ones():
    sizes = looks(Window(), PLACES, 3 * BLOCK_SIZE // 2)
    assert sizes == [FIRST_AFTER_SEEK] + [MAX_FIRST_AFTER_SEEK] * (len(PLACES) - 1)


def test_an_index_at_the_start_and_the_end_does_not_count_as_a_window():
    window = Window()
    ahead_of(window, [(0, KERNEL), (200 * BLOCK_SIZE, 200 * BLOCK_SIZE + 24_000)])
    window.advance(KERNEL, 3 * KERNEL)  # the kernel, ahead of the program, which is gone
    assert looks(window, [100 * BLOCK_SIZE]) == [FIRST_AFTER_SEEK]


def test_a_run_far_longer_than_a_window_is_not_expected_again():
    window = Window()
    ahead_of(window, sequence(0, 800))
    assert looks(window, PLACES[5:])[:6] == [MAX_FIRST_AFTER_SEEK] * 4 + [FIRST_AT_START] * 2


def test_ranges_that_could_not_be_requested_are_returned_again():
    window = Window()
    named = ahead_of(window, sequence(0, 80))
    window.rewind_to(named[-1].start)
    (again,) = ahead_of(window, [(80 * KERNEL, 81 * KERNEL)])
    assert again.start == named[-1].start


def test_repeated_reads_of_one_place_do_not_open_the_window_further():
    window = Window()
    named = ahead_of(window, [(0, KERNEL)] * 100)
    assert sum(map(len, named)) <= BLOCK_SIZE


def test_only_a_later_read_can_skip_what_others_have_read():
    """A first read may be one at random, whatever is cached before it."""
    window = Window()
    assert not window.skipped(0)
    assert not window.skipped(BLOCK_SIZE)
    window.advance(0, KERNEL)
    assert not window.skipped(KERNEL + MAX_FORWARD_STEP)
    for start in (KERNEL + MAX_FORWARD_STEP + 1, KERNEL + MAX_WINDOW):
        assert window.skipped(start) == range(KERNEL, start)
    assert not window.skipped(KERNEL + MAX_WINDOW + 1)


def test_threads_that_share_a_window_request_each_byte_once():
    """Eight at a time, as in the kernel: none is so late that it looks like a seek."""
    window, reads = Window(), sequence(0, 2000)
    with ThreadPoolExecutor(8) as pool:
        answers = [
            ahead
            for at in range(0, len(reads), 8)
            for ahead in pool.map(lambda read: window.advance(*read), reads[at : at + 8])
        ]
    named = sorted((ahead for ahead in answers if ahead is not None), key=lambda r: r.start)
    assert named
    for one, following in pairwise(named):
        assert following.start >= one.stop


def test_an_exact_window_fetches_nothing_ahead_and_only_parts():
    window = ExactWindow()
    for start in range(0, 64 * BLOCK_SIZE, BLOCK_SIZE):
        assert window.advance(start, start + BLOCK_SIZE) is None
        assert window.granularity == PART_SIZE
    assert not window.skipped(70 * BLOCK_SIZE)


def test_an_exact_window_fetches_ahead_what_will_be_read_for_certain():
    window = ExactWindow(stop=100 * BLOCK_SIZE + 5)
    pieces = [(start, start + 32 * BLOCK_SIZE) for start in range(0, 96 * BLOCK_SIZE, 1 << 25)]
    ahead = ahead_of(window, [*pieces, (96 * BLOCK_SIZE, 100 * BLOCK_SIZE + 5)])
    assert ahead == [
        range(32 * BLOCK_SIZE, 96 * BLOCK_SIZE),
        range(96 * BLOCK_SIZE, 100 * BLOCK_SIZE + 5),
    ]
    window.rewind_to(98 * BLOCK_SIZE)
    assert ahead_of(window, pieces[-1:]) == [range(98 * BLOCK_SIZE, 100 * BLOCK_SIZE + 5)]
