"""Byte ranges as blocks: every byte in exactly one place."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ego4dfs.blocks import (
    BLOCK_SIZE,
    PART_SIZE,
    ObjectRef,
    Span,
    block_extent,
    block_key,
    join_adjacent,
    missing_extents,
    overlapping_keys,
    present_extents,
    spans,
)

OFFSETS = st.integers(0, 20 * BLOCK_SIZE) | st.builds(
    lambda block, delta: max(0, block * BLOCK_SIZE + delta),
    st.integers(0, 20),
    st.integers(-2, 2),
)


@given(OFFSETS, OFFSETS)
def test_spans_cover_a_range_exactly_and_in_order(start, stop):
    cut = list(spans(start, stop))
    places = [(s.index * BLOCK_SIZE + s.start, s.index * BLOCK_SIZE + s.stop) for s in cut]
    if start >= stop:
        assert cut == []
        return
    assert (places[0][0], places[-1][1]) == (start, stop)
    assert all(one[1] == next_one[0] for one, next_one in pairwise(places))
    assert all(0 <= s.start < s.stop <= BLOCK_SIZE for s in cut)
    assert [s.index for s in cut] == list(range(cut[0].index, cut[-1].index + 1))


def test_a_range_up_to_a_border_does_not_touch_the_next_block():
    assert list(spans(0, BLOCK_SIZE)) == [Span(0, 0, BLOCK_SIZE)]
    assert list(spans(BLOCK_SIZE - 1, BLOCK_SIZE + 1)) == [
        Span(0, BLOCK_SIZE - 1, BLOCK_SIZE),
        Span(1, 0, 1),
    ]


def runs(indexes: list[int], longest: int) -> list[range]:
    """Join blocks into requests, and return those as ranges of blocks."""
    ref = ObjectRef.of("source", "s3://b/k", 100 * BLOCK_SIZE, "etag")
    entries = (block_extent(ref, index) for index in indexes)
    joined = join_adjacent(entries, longest * BLOCK_SIZE)
    return [range(r[0].start // BLOCK_SIZE, r[-1].stop // BLOCK_SIZE) for r in joined]


@given(st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_runs_cover_exactly_the_blocks_given(indexes, longest):
    joined = runs(sorted(indexes), longest)
    assert [index for run in joined for index in run] == sorted(indexes)
    assert all(1 <= len(run) <= longest for run in joined)


@given(st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_the_number_of_runs_is_minimal(indexes, longest):
    """Two adjacent runs are separate only if the first is full."""
    joined = runs(sorted(indexes), longest)
    assert all(
        one.stop < next_one.start or len(one) == longest for one, next_one in pairwise(joined)
    )


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (0, []),
        (1, [1]),
        (BLOCK_SIZE, [BLOCK_SIZE]),
        (BLOCK_SIZE + 1, [BLOCK_SIZE, 1]),
        (3 * BLOCK_SIZE - 1, [BLOCK_SIZE, BLOCK_SIZE, BLOCK_SIZE - 1]),
    ],
)
def test_an_object_is_whole_blocks_and_a_rest(size, lengths):
    ref = ObjectRef.of("s", "s3://b/k", size, "e")
    assert [ref.block_length(index) for index in range(ref.block_count)] == lengths


def test_blocks_of_other_sources_objects_versions_and_places_have_other_names():
    refs = [
        ObjectRef.of(source, url, 10, etag).object_id
        for source in ("s", "t", "")
        for url in ("s3://b/k", "s3://b/l")
        for etag in ("1", "2", "")
    ]
    keys = {block_key(name, index) for name in refs for index in (0, 1, 16, 255, 2**20)}
    assert len(keys) == len(refs) * 5


def test_parts_of_an_identity_do_not_run_into_each_other():
    assert ObjectRef.of("a", "bc", 1, "d").object_id != ObjectRef.of("ab", "c", 1, "d").object_id
    assert ObjectRef.of("a", "b", 1, "cd").object_id != ObjectRef.of("a", "bc", 1, "d").object_id


def test_the_name_of_a_block_is_the_same_in_every_process():
    """It is a file name that is used by later processes."""
    ref = ObjectRef.of("s", "s3://b/k", 10, "e")
    assert ref.object_id == "6d33da98dc9d94ead4fde712d9c3a00f"
    assert block_key(ref.object_id, 255) == f"{ref.object_id}-ff"


@pytest.mark.parametrize("length", [1, PART_SIZE, BLOCK_SIZE + 1])
def test_a_block_that_is_no_longer_than_a_part_is_looked_up_once_and_fetched_whole(length):
    """Each lookup is a system call, and small files have no other block."""
    ref = ObjectRef.of("source", "s3://b/k", length, "etag")
    last = block_extent(ref, ref.block_count - 1)
    asked: list[str] = []
    for granularity in (PART_SIZE, BLOCK_SIZE):
        assert list(
            missing_extents(
                ref, length - 1, length, granularity, lambda key: bool(asked.append(key))
            )
        ) == [last]
    assert asked == [last.key, last.key]
    assert overlapping_keys(ref, last) == ()


@given(
    st.integers(1, 6 * BLOCK_SIZE),
    OFFSETS,
    OFFSETS,
    st.sets(st.integers(0, 5)),
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 3))),
)
def test_present_and_missing_extents_cover_a_range(size, start, length, blocks, parts):
    """Present ones are those that exist, in order; each byte that is not present is missing."""
    ref = ObjectRef.of("source", "s3://b/k", size, "etag")
    keys = {block_key(ref.object_id, index) for index in blocks}
    for index, part in parts:  # a block that is no longer than a part has none
        if ref.block_length(index) > PART_SIZE:
            keys.add(f"{block_key(ref.object_id, index)}.{part}")
    stop = min(size, start + length)
    present = list(present_extents(ref, start, start + length, keys.__contains__))
    missing = list(missing_extents(ref, start, stop, PART_SIZE, keys.__contains__))
    assert {extent.key for extent in present} <= keys
    assert not {extent.key for extent in missing} & keys
    if start < stop:
        assert all(extent.start < stop and start < extent.stop for extent in present)
        ordered = sorted([*present, *missing], key=lambda extent: extent.start)
        assert all(one.stop == other.start for one, other in pairwise(ordered))
        assert ordered[0].start <= start
        assert ordered[-1].stop >= stop
