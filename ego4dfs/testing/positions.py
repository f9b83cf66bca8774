"""Hypothesis strategies of sizes, offsets and lengths, many at the borders of parts and blocks."""

from __future__ import annotations

from hypothesis import strategies as st

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE

_SIZES = [  # larger ones more often: what an open fetches, 512 KiB, is cached from then on
    *[0, 1, 4096, 70_001, PART_SIZE, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1],
    *[3 * PART_SIZE + 1, 2 * BLOCK_SIZE + 17, 5 * PART_SIZE, 3 * BLOCK_SIZE],
]
sizes = st.sampled_from(_SIZES)
numbers = st.integers(0, 1000)
offsets = st.one_of(
    st.builds(
        lambda part, off: max(0, part * PART_SIZE + off),
        st.integers(0, 13),
        numbers.map(lambda n: n % 7 - 3),
    ),
    st.integers(0, 3 * BLOCK_SIZE),
)
lengths = st.one_of(
    st.integers(0, 10),
    st.sampled_from([4096, 128 << 10, PART_SIZE, BLOCK_SIZE + 1, 4 * BLOCK_SIZE]),
)
