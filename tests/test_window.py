"""How far one reader is read ahead of."""

from __future__ import annotations

import random
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.reader import Window
from ego4dfs.reader.window import BACK_SLACK, FORWARD_SLACK, MAX_WINDOW

KERNEL = 128 * 1024


def sequence(start: int, count: int, size: int = KERNEL) -> list[tuple[int, int]]:
    return [(start + i * size, start + (i + 1) * size) for i in range(count)]


def ahead_of(window: Window, reads: list[tuple[int, int]]) -> list[range]:
    """Return the ranges that these reads cause to be fetched ahead."""
    return [ahead for start, stop in reads if (ahead := window.advance(start, stop)) is not None]


@pytest.mark.parametrize("start", [0, 1, BLOCK_SIZE, 50 * BLOCK_SIZE + 7])
def test_a_first_read_fetches_nothing_ahead(start):
    assert ahead_of(Window(), [(start, start + KERNEL)]) == []


@pytest.mark.parametrize("start", [0, 50 * BLOCK_SIZE + 7])
def test_reading_on_opens_a_window_of_one_block(start):
    (ahead,) = ahead_of(Window(), sequence(start, 2))
    assert ahead.start == start + 2 * KERNEL
    assert len(ahead) == BLOCK_SIZE


@pytest.mark.parametrize("size", [4096, KERNEL, BLOCK_SIZE, 3 * BLOCK_SIZE + 5])
def test_a_window_grows_up_to_its_bound_while_reading_on(size):
    window, furthest = Window(), 0
    lengths = []
    for start, stop in sequence(0, 200 * BLOCK_SIZE // size, size):
        ahead = window.advance(start, stop)
        if ahead is not None:
            furthest = ahead.stop
        lengths.append(furthest - stop)
    assert max(lengths) == MAX_WINDOW
    assert min(lengths[len(lengths) // 2 :]) >= 0


@pytest.mark.parametrize("size", [4096, KERNEL, BLOCK_SIZE, 3 * BLOCK_SIZE + 5])
def test_a_reader_never_comes_to_what_was_not_asked_for(size):
    """Once the window is open, what is read next was named before."""
    window = Window()
    (opened,) = ahead_of(window, sequence(0, 2, size))
    furthest = opened.stop
    for start, stop in sequence(2 * size, 60 * BLOCK_SIZE // size, size):
        ahead = window.advance(start, stop)
        if ahead is not None:
            furthest = max(furthest, ahead.stop)
        assert furthest >= stop


@given(st.lists(st.integers(1, 2 * BLOCK_SIZE), min_size=1, max_size=60))
def test_never_more_is_ahead_than_was_read_but_for_a_block(sizes):
    window, position, furthest = Window(), 0, 0
    for size in sizes:
        ahead = window.advance(position, position + size)
        position += size
        if ahead is not None:
            furthest = ahead.stop
        assert furthest - position <= max(BLOCK_SIZE, position)


@given(st.lists(st.integers(1, 2 * BLOCK_SIZE), min_size=1, max_size=60))
def test_each_byte_ahead_is_named_once_and_without_gaps(sizes):
    window, position, named = Window(), 0, []
    for size in sizes:
        ahead = window.advance(position, position + size)
        position += size
        if ahead is not None:
            named.append(ahead)
    assert all(len(ahead) > 0 for ahead in named)
    for one, following in pairwise(named):
        assert following.start >= one.stop


def test_small_steps_back_are_no_seek():
    """The kernel reorders its requests; an MP4 is read a little to and fro."""
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
    "seek", [BACK_SLACK + KERNEL + 1, -FORWARD_SLACK - 1, -50 * BLOCK_SIZE, 20 * BLOCK_SIZE]
)
def test_a_far_seek_closes_the_window(seek):
    """Back by `seek` bytes, or forward where it is negative."""
    window, end = Window(), 40 * BLOCK_SIZE
    assert ahead_of(window, sequence(0, end // KERNEL))
    target = end - seek
    assert window.advance(target, target + KERNEL) is None
    ahead = window.advance(target + KERNEL, target + 2 * KERNEL)
    assert ahead is not None
    assert len(ahead) == BLOCK_SIZE


def test_random_reads_fetch_nothing_ahead():
    window, rng = Window(), random.Random(3)
    position, far = 0, 10 * BLOCK_SIZE
    for _ in range(200):
        position += rng.choice([-1, 1]) * rng.randrange(far, 3 * far) + 2000 * BLOCK_SIZE
        assert window.advance(position, position + KERNEL) is None


def test_the_same_place_over_and_over_does_not_open_the_window_further():
    window = Window()
    named = ahead_of(window, [(0, KERNEL)] * 100)
    assert sum(map(len, named)) <= BLOCK_SIZE


def test_a_window_may_be_smaller():
    window = Window(2 * BLOCK_SIZE)
    furthest = 0
    for start, stop in sequence(0, 400):
        ahead = window.advance(start, stop)
        furthest = ahead.stop if ahead is not None else furthest
        assert furthest - stop <= 2 * BLOCK_SIZE


def test_threads_that_share_a_window_name_each_byte_once():
    window, named, lock = Window(), [], threading.Lock()
    reads = iter(sequence(0, 2000))

    def work() -> None:
        while True:
            with lock:
                read = next(reads, None)
            if read is None:
                return
            ahead = window.advance(*read)
            if ahead is not None:
                with lock:
                    named.append(ahead)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    named.sort(key=lambda ahead: ahead.start)
    for one, following in pairwise(named):
        assert following.start >= one.stop
